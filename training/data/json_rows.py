"""JSON files to a table: one object per line, or one list of objects.

The standard library reads them, not polars, which turns `true` into "true" and names no line.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from training.data.tables import Table
from training.errors import InvalidData

_ROW = '{"text": "…", "label": "…"}'


def read_json(path: Path, text: str) -> Table:
    """The rows of a file's `text`; a missing key reads as null. Raises InvalidData."""
    found = _listed(path, text)
    return _read_lines(path, text) if found is None else _table(path, found, "row")


def _listed(path: Path, text: str) -> list[object] | None:
    """The rows of a file that is one JSON value; None for a file of lines, right or wrong."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("["):
            raise InvalidData(
                f"{path} is not a whole JSON list ({error}). Write the file again."
            ) from error
        return None
    if isinstance(value, dict):
        _refuse_nested(path, value)
        return [value] if "\n" in text.strip() else None
    return value if isinstance(value, list) else None


def _refuse_nested(path: Path, value: dict[str, object]) -> None:
    """Raises InvalidData for an object such as {"data": [rows]}, which is no row itself.

    pandas writes {"text": {"0": …}, "label": {"0": …}} unless it is told otherwise.
    """
    if value and all(_is_column(part) for part in value.values()):
        raise InvalidData(
            f"{path} holds columns of numbered cells, as pandas writes them by default. Write rows "
            "with to_json(path, orient='records')."
        )
    if value and all(_are_rows(part) for part in value.values()):
        keys = ", ".join(f"{key!r:.40}" for key in list(value)[:5])
        raise InvalidData(
            f"{path} is one JSON object with the keys {keys}{' …' if len(value) > 5 else ''}, and "
            f"no row. Give a list of objects such as {_ROW}, or one object per line."
        )


def _is_column(value: object) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(key.isdecimal() for key in value)


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], dict)


def _read_lines(path: Path, text: str) -> Table:
    """One object per line; blank lines are skipped."""
    values: list[object] = []
    numbers: list[int] = []
    # Not splitlines(): JSON strings may hold U+2028, which ends no line here.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            values.append(_parse_line(path, number, line))
            numbers.append(number)
    return _table(path, values, "line", numbers)


def _parse_line(path: Path, number: int, line: str) -> object:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidData(
            f"{path}, line {number} is not JSON ({error}). Each line must hold one whole "
            "object, or the file one list of objects."
        ) from error
    return value


def _table(
    path: Path, values: Sequence[object], unit: str, numbers: Sequence[int] | None = None
) -> Table:
    """Cells by column of objects, which `numbers` count as the user does: from 1 where None."""
    counted = range(1, len(values) + 1) if numbers is None else numbers
    objects: list[dict[str, object]] = []
    for number, value in zip(counted, values, strict=True):
        if not isinstance(value, dict):
            raise InvalidData(
                f"{path}, {unit} {number} holds a JSON {type(value).__name__}. Each {unit} must be "
                f"one object, such as {_ROW}."
            )
        objects.append(value)
    columns = tuple(dict.fromkeys(key for row in objects for key in row))
    cells = {column: [row.get(column) for row in objects] for column in columns}
    return Table(path, columns, cells, counted, unit)
