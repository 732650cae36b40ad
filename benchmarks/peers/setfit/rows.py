"""The rows of the comparison: few for training, all for the test, in one file for both sides."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SHOTS = 10
COLUMNS = ("text", "label", "split")

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """A data set: its file in the data folder, and the split whose rows may train."""

    name: str
    file: str
    train_split: str


SENTIMENT = Source("sentiment of three sites (UCI)", "uci_sentiment3/tidy.csv", "train")
SOURCES = (Source("BANKING77", "intent_fewshot/BANKING77/tidy.csv", "train_10"), SENTIMENT)


def few_rows(rows: Iterable[Row], train_split: str, shots: int = SHOTS) -> list[Row]:
    """The first `shots` training rows of each label, as split `train`; the test rows, all."""
    taken: Counter[str] = Counter()
    chosen = []
    for row in rows:
        if row["split"] == "test":
            chosen.append(_row(row, "test"))
        elif row["split"] == train_split and taken[row["label"]] < shots:
            taken[row["label"]] += 1
            chosen.append(_row(row, "train"))
    return chosen


def write_few_rows(source: Path, train_split: str, file: Path) -> None:
    """The chosen rows of `source` as CSV."""
    with source.open(newline="") as lines, file.open("w", newline="") as output:
        writer = csv.DictWriter(output, COLUMNS)
        writer.writeheader()
        writer.writerows(few_rows(csv.DictReader(lines), train_split))


def _row(row: Row, split: str) -> Row:
    return {"text": row["text"], "label": row["label"], "split": split}
