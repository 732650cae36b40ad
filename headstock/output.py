"""What commands print: a table or lines for people, one JSON document for programs.

Standard output carries the result alone; progress, notes and errors go to standard error.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def show_json(content: Any) -> None:
    """One JSON document."""
    print(json.dumps(content, ensure_ascii=False, indent=2), flush=True)


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Escaped: a customer's label such as "[red]" is text here, not markup.
        table.add_row(*(escape(str(cell)) for cell in row))
    Console(highlight=False).print(table)


def note(text: str) -> None:
    """A line on standard error."""
    stderr.print(text, markup=False)
