"""A table to the labelled rows of a task."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from training.data.reading import read_table
from training.data.tables import as_text
from training.errors import InvalidData

if TYPE_CHECKING:
    from training.tasks.base import Task

DEFAULT_SPLIT_COLUMN = "split"
Target = TypeVar("Target")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where labelled rows are: names of columns, and of the splits within the split column.

    `test_data` is the file of the test rows if they are not in the file of the others. All rows of
    a file are of one split then.
    """

    text: str = "text"
    label: str = "label"
    split: str = DEFAULT_SPLIT_COLUMN
    train: str = "train"
    test: str = "test"
    test_data: Path | None = None


@dataclass(frozen=True, slots=True)
class Rows(Generic[Target]):
    """Texts with what they shall be answered, in the file's order; what a target is says the task.

    `splits` is None where the file has no such column.
    """

    texts: tuple[str, ...]
    targets: tuple[Target, ...]
    splits: tuple[str, ...] | None

    def pick(self, places: Iterable[int]) -> tuple[list[str], list[Target]]:
        """Texts and targets of some rows."""
        found = list(places)
        return [self.texts[place] for place in found], [self.targets[place] for place in found]

    @property
    def fingerprint(self) -> str:
        """The sha256 of texts, targets and splits in their order: equal data, equal fingerprint."""
        digest = hashlib.sha256()
        for column in (self.texts, self.targets, self.splits or ()):
            for value in column:
                content = json.dumps(value, ensure_ascii=True).encode()
                digest.update(len(content).to_bytes(8, "little") + content)
            digest.update(b"\xff" * 8)
        return digest.hexdigest()


def read_rows(path: Path, columns: Columns, task: "Task[Target]") -> Rows[Target]:
    """Read the rows of a CSV, TSV, JSON, JSON Lines or Parquet file; raises InvalidData.

    Texts stay as they are; splits lose surrounding white space. The split column may be absent,
    unless it is asked for by another name than the default. Rows of `columns.test_data` follow
    those of `path`.
    """
    if columns.text == columns.label:
        raise InvalidData(f"The text and the label cannot both be the column {columns.text!r}.")
    if columns.test_data is None:
        return _read_file(path, columns, task)
    if columns.test_data.exists() and path.exists() and columns.test_data.samefile(path):
        raise InvalidData(f"{path} cannot hold the training rows and be --test-data too.")
    sides = {
        split: _read_one_split(file, split, columns, task)
        for file, split in ((path, columns.train), (columns.test_data, columns.test))
    }
    train, test = sides[columns.train], sides[columns.test]
    splits = (columns.train,) * len(train.texts) + (columns.test,) * len(test.texts)
    return Rows(train.texts + test.texts, train.targets + test.targets, splits)


def _read_one_split(path: Path, split: str, columns: Columns, task: "Task[Target]") -> Rows[Target]:
    """Read a file whose rows are all of one split; raises InvalidData where they say otherwise."""
    rows = _read_file(path, columns, task)
    others = sorted({*(rows.splits or ())} - {split})
    if others:
        raise InvalidData(
            f"{path} has rows of the split {others[0]!r}, and with --test-data all of its rows are "
            f"of {split!r}. Remove such rows or the column {columns.split!r}, or leave --test-data "
            "out."
        )
    return rows


def _read_file(path: Path, columns: Columns, task: "Task[Target]") -> Rows[Target]:
    table = read_table(path)
    texts, targets = task.read(table, columns.text, columns.label)
    is_split = columns.split in table.columns
    if columns.split != DEFAULT_SPLIT_COLUMN or is_split:
        table.require(columns.split, "--split-column")
    splits = None
    if is_split:
        splits = tuple(split.strip() for split in table.parse(columns.split, as_text))
    return Rows(tuple(texts), tuple(targets), splits)
