"""A user's file to a table of cells, with every refusal naming the place.

CSV and JSON Lines are read with the standard library, not with polars, which refuses the bare quote
of `a 6" pipe,order`, fills short lines with nulls, turns `true` into "true", and names no line in
its errors. Nothing is inferred anywhere: "NA", "null" and "007" are the text that they are.
"""

import codecs
import csv
import difflib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import polars as pl

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
        near = difflib.get_close_matches(column, self.columns, n=1, cutoff=0.8)
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
        self.require(column, "--text-column")
        return self.parse(column, as_text)

    def places(self, numbers: Sequence[int]) -> str:
        """ "lines 3, 7 and 12 more": the first few places and the count of the rest."""
        first = ", ".join(str(number) for number in numbers[:5])
        more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
        return f"{self.unit}{'s' if len(numbers) > 1 else ''} {first}{more}"


def read_table(path: Path) -> Table:
    """The cells of a CSV, TSV, JSON Lines or Parquet file; raises InvalidData."""
    table = _READERS[_suffix(path)](path)
    if not table.numbers:
        raise InvalidData(f"{path} has a header and no rows. Add rows.")
    return table


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


def _suffix(path: Path) -> str:
    """The suffix that chooses the reader, for a file that is there and not empty."""
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise InvalidData(f"There is no file {path}.") from error
    if path.is_dir():
        raise InvalidData(f"{path} is a folder. Give one file of rows.")
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        known = ", ".join(_READERS)
        raise InvalidData(f"{path} ends in {suffix or 'no suffix'!r}. Known are {known}.")
    if size == 0:
        raise InvalidData(f"{path} is empty. Give it a header and rows.")
    return suffix


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}.") from error


def _read_text(path: Path) -> str:
    """The decoded file: UTF-8 with or without its mark, or UTF-16 with its mark."""
    raw = _read_bytes(path)
    marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidData(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} at position {error.start} is not "
            f"{'UTF-16' if marked else 'UTF-8'}. Save the file as UTF-8."
        ) from error
    if not text.strip():
        raise InvalidData(f"{path} is empty. Give it a header and rows.")
    return text


def _read_delimited(path: Path, delimiter: str) -> Table:
    """A CSV or TSV file: a header, then records, of which a quoted one may span lines."""
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    numbers: list[int] = []
    start = 1
    try:
        for record in reader:
            if record:
                records.append(record)
                numbers.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InvalidData(
            f"{path}: the record that starts on line {start} is broken ({error}). A field with a "
            'quote, a line break or a separator in it needs "quotes" around it, and its own '
            "quotes doubled."
        ) from error
    header = tuple(records[0])
    if delimiter == "," and len(header) == 1 and (other := _other_separator(header[0])):
        raise InvalidData(
            f"{path}: the header is one column, {header[0]!r:.80}: the file's separator seems to "
            f"be {other!r}. Save it with commas, or with tabs as .tsv."
        )
    for number, record in zip(numbers, records, strict=True):
        if len(record) != len(header):
            raise InvalidData(
                f"{path}, line {number} has {len(record)} fields, and the header has "
                f'{len(header)}. A field with {delimiter!r} in it needs "quotes" around it.'
            )
    cells = [[record[i] for record in records[1:]] for i in range(len(header))]
    return Table(path, header, dict(zip(header, cells, strict=True)), numbers[1:], "line")


def _other_separator(header: str) -> str | None:
    """What seems to separate the columns of a file that is not separated by commas."""
    return next((separator for separator in ";\t|" if separator in header), None)


def _read_json_lines(path: Path) -> Table:
    """A file of one JSON object a line; blank lines are skipped. A missing key reads as null."""
    objects: list[dict[str, object]] = []
    numbers: list[int] = []
    # Not splitlines(): JSON strings may hold U+2028, which ends no line here.
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            objects.append(_json_object(path, number, line))
            numbers.append(number)
    columns = tuple(dict.fromkeys(key for row in objects for key in row))
    cells = {column: [row.get(column) for row in objects] for column in columns}
    return Table(path, columns, cells, numbers, "line")


def _json_object(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidData(
            f"{path}, line {number} is not JSON ({error}). Each line must hold one whole object."
        ) from error
    if not isinstance(value, dict):
        raise InvalidData(
            f"{path}, line {number} holds a JSON {type(value).__name__}. Each line must hold one "
            'object, such as {"text": "…", "label": "…"}.'
        )
    return value


def _read_parquet(path: Path) -> Table:
    try:
        frame = pl.read_parquet(io.BytesIO(_read_bytes(path)))
        cells = frame.to_dict(as_series=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InvalidData(f"{path} is not a whole Parquet file. Write it again.") from error
    return Table(path, tuple(frame.columns), cells, range(1, frame.height + 1), "row")


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": partial(_read_delimited, delimiter=","),
    ".tsv": partial(_read_delimited, delimiter="\t"),
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
