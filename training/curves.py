"""Training and validation curves: JSON lines, written as they happen."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.errors import TrainingError

Record = Mapping[str, Any]


class Curves:
    """A file of records, one a line; nowhere where no path is given.

    A line that a kill cut short is not read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def add(self, record: Record) -> None:
        """Append a record. Raises TrainingError where it cannot be written."""
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise TrainingError(f"{self._path} cannot be written: {error.strerror}") from error

    def keep(self, before: int) -> None:
        """Forget records of steps from `before` on: they will come again."""
        if self._path is None or not self._path.exists():
            return
        kept = [record for record in read_curves(self._path) if record["step"] < before]
        self._path.write_text("".join(json.dumps(record) + "\n" for record in kept))


def read_curves(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file. Raises TrainingError where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from error
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record
