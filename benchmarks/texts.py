"""The texts of the load: real ones from the data folder, the samples of the package without it."""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstock.demo import SAMPLES

_LONG_SENTENCES = (3, 12)


@dataclass(frozen=True, slots=True)
class Texts:
    """`plain`: short questions of one kind; `mixed`: of all lengths; `said`: where from."""

    plain: Sequence[str]
    mixed: Sequence[str]
    said: str


def read_texts(data: Path | None) -> Texts:
    """BANKING77's test rows, and mixed with CLINC150 and paragraphs of reviews, in random order."""
    files = {
        "BANKING77": ("banking77/tidy.csv", {"test"}),
        "CLINC150": ("clinc150/tidy_full.csv", {"test", "val", "valid"}),
        "reviews (UCI)": ("uci_sentiment3/tidy.csv", {"train", "test"}),
    }
    found = {
        name: _column(data / file, splits)
        for name, (file, splits) in files.items()
        if data is not None and (data / file).is_file()
    }
    order = random.Random(0)
    plain = found.get("BANKING77")
    if plain is None:
        plain = [text for each in sorted(SAMPLES.glob("*.csv")) for text in _column(each, None)]
        order.shuffle(plain)
        return Texts(plain, [*plain, *_paragraphs(plain, order)], "the sample data of the package")
    order.shuffle(plain)
    longer = _paragraphs(found.get("reviews (UCI)", plain), order)
    mixed = [*plain, *order.sample(found.get("CLINC150", plain), 3000), *longer]
    order.shuffle(mixed)
    return Texts(plain, mixed, ", ".join(found))


def _column(file: Path, splits: set[str] | None) -> list[str]:
    with file.open(newline="") as lines:
        return [
            row["text"]
            for row in csv.DictReader(lines)
            if splits is None or row.get("split") in splits
        ]


def _paragraphs(sentences: Sequence[str], order: random.Random) -> list[str]:
    """One for every ten sentences, some 30 to 250 tokens long."""
    return [
        " ".join(order.choices(sentences, k=order.randint(*_LONG_SENTENCES)))
        for _ in range(max(1, len(sentences) // 10))
    ]
