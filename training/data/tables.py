"""A table of cells as a file has them, with every refusal naming the place.

Nothing is inferred anywhere: "NA", "null" and "007" are the text that they are.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from training.errors import InvalidData

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Table:
    """A file as read: cells by column, and the number by which the user finds each row."""

    path: Path
    columns: tuple[str, ...]
    cells: Mapping[str, Sequence[object]]
    numbers: Sequence[int]
    unit: str

    def require(self, column: str, flag: str) -> None:
        """Raises InvalidData, with the `flag` to change, where there is not one such column."""
        count = self.columns.count(column)
        if count == 1:
            return
        if count > 1:
            raise InvalidData(f"{self.path} has {count} columns {column!r}. Rename all but one.")
        there = ", ".join(repr(name) for name in self.columns[:20])
        # Near enough to be a typo: 'intent', a likely label, is 0.6 near to 'text'.
        near = [name for name in self.columns if name.strip().casefold() == column.casefold()]
        near = near or difflib.get_close_matches(column, self.columns, n=1, cutoff=0.8)
        advice = f"Name the right one with {flag}; the first line must be the header."
        if near:
            advice = f"Did you mean {flag} {near[0]!r}?"
        raise InvalidData(f"{self.path} has no column {column!r}; it has {there}. {advice}")

    def parse(
        self, column: str, parse: Callable[[object], Value], *, empty_as: Value | None = None
    ) -> list[Value]:
        """What `parse` makes of each cell; its ValueErrors become InvalidData with the place.

        Empty cells (null, or nothing but white space) are `empty_as`, and refused where it is None.
        """
        values: list[Value] = []
        empty: list[int] = []
        for number, cell in zip(self.numbers, self.cells[column], strict=True):
            if cell is None or (isinstance(cell, str) and not cell.strip()):
                if empty_as is None:
                    empty.append(number)
                else:
                    values.append(empty_as)
                continue
            try:
                values.append(parse(cell))
            except ValueError as error:
                raise InvalidData(
                    f"{self.path}, {self.unit} {number}, column {column!r}: {error}"
                ) from error
        if empty:
            where = self.places(empty)
            raise InvalidData(
                f"{self.path}: the {column} is empty in {where}. Fill or remove such rows."
            )
        return values

    def texts(self, column: str) -> list[str]:
        """The column of texts as they are; raises InvalidData."""
        self.require(column, "--input-column")
        return self.parse(column, as_text)

    def places(self, numbers: Sequence[int]) -> str:
        """ "lines 3, 7 and 12 more": the first few places and the count of the rest."""
        first = ", ".join(str(number) for number in numbers[:5])
        more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
        return f"{self.unit}{'s' if len(numbers) > 1 else ''} {first}{more}"


def as_text(cell: object) -> str:
    """A cell as a string: integers as their digits. Raises ValueError for all else."""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    if not isinstance(cell, str):
        raise ValueError(f"{cell!r:.40} is a {type(cell).__name__}. Write it as text.")
    try:
        cell.encode()
    except UnicodeEncodeError:
        # JSON can spell half a surrogate pair, which no tokenizer and no file can take.
        raise ValueError("it is not valid Unicode.") from None
    return cell
