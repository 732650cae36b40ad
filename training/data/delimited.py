"""CSV and TSV files to a table.

The standard library reads them, not polars, which refuses the bare quote of `a 6" pipe,order`,
fills short lines with nulls, and names no line in its errors.
"""

import csv
import io
import sys
from pathlib import Path

from training.data.tables import Table
from training.errors import InvalidData

# The module's own limit, 131,072 characters, is for streams: here the whole file is in memory.
csv.field_size_limit(sys.maxsize)


def read_delimited(path: Path, text: str, delimiter: str) -> Table:
    """A header, then records, of which a quoted one may span lines. Raises InvalidData."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
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
    if len(header) == 1 and (other := _other_separator(header[0])):
        raise InvalidData(
            f"{path}: the header is one column, {header[0]!r:.80}: the file's separator seems to "
            f"be {other!r}. Save it with commas as .csv, or with tabs as .tsv."
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
    """Guess what separates the columns of a file that has another separator than its name says."""
    return next((separator for separator in "\t;|," if separator in header), None)
