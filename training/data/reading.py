"""A user's file to a table, by its suffix."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl

from training.data.decoding import decode_file
from training.data.delimited import read_delimited
from training.data.json_rows import read_json
from training.data.tables import Table
from training.errors import InvalidData

_EMPTY = "is empty. Give it a header and rows."


def read_table(path: Path) -> Table:
    """The cells of a CSV, TSV, JSON, JSON Lines or Parquet file; raises InvalidData."""
    table = _READERS[_suffix(path)](path)
    if not table.numbers:
        raise InvalidData(f"{path} has no rows. Add rows.")
    return table


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
        advice = _ADVICE.get(suffix, "")
        raise InvalidData(f"{path} ends in {suffix or 'no suffix'!r}. Known are {known}.{advice}")
    if size == 0:
        raise InvalidData(f"{path} {_EMPTY}")
    return suffix


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}.") from error


def _read_text(path: Path) -> str:
    text = decode_file(path, _read_bytes(path))
    if not text.strip():
        raise InvalidData(f"{path} {_EMPTY}")
    return text


def _read_delimited(path: Path, delimiter: str) -> Table:
    return read_delimited(path, _read_text(path), delimiter)


def _read_json(path: Path) -> Table:
    return read_json(path, _read_text(path))


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
    ".json": _read_json,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".parquet": _read_parquet,
}
_SHEET = " Save the sheet as CSV in UTF-8."
_PACKED = " Unpack it first."
_ADVICE = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), _SHEET),
    **dict.fromkeys((".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar"), _PACKED),
    ".txt": " Rename it after what it holds.",
}
