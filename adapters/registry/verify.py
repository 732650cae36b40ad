"""Reads a registry's file through: whether it is one of ours, whole, and undamaged."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.errors import InvalidInput
from adapters.registry import migrate
from adapters.registry.sqlite import connect
from adapters.registry.tables import metadata

Report = Callable[[int, int], None]  # done, total

_REPORT_EVERY: Final = 100
_FIRST_TABLES: Final = {"tenants", "keys", "adapters", "versions", "releases", "audit"}


@dataclass(frozen=True, slots=True)
class Contents:
    """What a registry holds, as far as an operator recognises it by that."""

    tenants: int
    versions: int
    changes: int  # the number of the newest change
    bytes: int  # of the file


def verify(path: Path, name: str, report: Report) -> Contents:
    """Check a file that nobody else has open; `name` is what messages call it.

    Raises:
        InvalidInput: what is wrong with it, in one sentence.
    """
    try:
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA query_only = ON")
            _check_schema(connection, name)
            _check_pages(connection, name)
            _check_digests(connection, name, report)
            return _contents(connection, path)
    except sqlite3.DatabaseError as error:
        raise InvalidInput(f"{name} cannot be read as a registry: {error}") from error


def _check_schema(connection: sqlite3.Connection, name: str) -> None:
    found = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
    tables = {name for kind, name in found if kind == "table"}
    if not found:
        raise InvalidInput(f"{name} is an empty database, not a registry")
    revisions = (
        connection.execute("SELECT version_num FROM alembic_version").fetchall()
        if "alembic_version" in tables
        else []
    )
    has_code = any(kind in ("trigger", "view") for kind, _ in found)
    if len(revisions) != 1 or not tables >= _FIRST_TABLES or has_code:
        raise InvalidInput(f"{name} is another program's database, not a registry")
    [(revision,)] = revisions
    if revision not in migrate.known_revisions():
        raise InvalidInput(
            f"{name} was made by a newer Headstock (schema {str(revision)[:40]!a}): update this one"
        )


def check_columns(path: Path, name: str) -> None:
    """Whether a file whose tables were brought up to date has all of them. Raises InvalidInput."""
    with closing(connect(path)) as connection:
        for table in metadata.tables.values():
            rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table.name,))
            missing = {column.name for column in table.columns} - {row[0] for row in rows}
            if missing:
                raise InvalidInput(
                    f"{name} is not a registry: its table {table.name} has no {min(missing)}"
                )


def _check_pages(connection: sqlite3.Connection, name: str) -> None:
    [(said,), *_] = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if said != "ok":
        raise InvalidInput(f"{name} is damaged: {said.splitlines()[-1]}")
    broken: Sequence[tuple[str, ...]] = connection.execute("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise InvalidInput(f"{name} is damaged: a row of {broken[0][0]} belongs to nothing")


def _check_digests(connection: sqlite3.Connection, name: str, report: Report) -> None:
    [(total,)] = connection.execute("SELECT count(*) FROM versions")
    columns = connection.execute("SELECT name FROM pragma_table_info('versions')").fetchall()
    upload = "upload" if ("upload",) in columns else "NULL"  # a schema before long files had parts
    rows = connection.execute(f"SELECT number, digest, size, content, {upload} FROM versions")
    for done, (number, digest, size, content, upload) in enumerate(rows, 1):
        pieces = [content] if upload is None else _parts(connection, upload)
        found, found_size = hashlib.sha256(), 0
        for piece in pieces:
            found.update(piece)
            found_size += len(piece)
        if found_size != size or found.hexdigest() != digest:
            raise InvalidInput(
                f"{name} is damaged: the bytes of version {number} are not those of {digest}"
            )
        if done % _REPORT_EVERY == 0 or done == total:
            report(done, total)


def _parts(connection: sqlite3.Connection, upload: str) -> Iterator[bytes]:
    """The bytes of a long file, a part at a time: it need not fit into memory."""
    query = "SELECT content FROM parts WHERE upload = ? ORDER BY number"
    for (content,) in connection.execute(query, (upload,)):
        yield content


def _contents(connection: sqlite3.Connection, path: Path) -> Contents:
    [(tenants, versions, changes)] = connection.execute(
        "SELECT (SELECT count(*) FROM tenants), (SELECT count(*) FROM versions), "
        "(SELECT coalesce(max(seq), 0) FROM audit)"
    ).fetchall()
    return Contents(tenants, versions, changes, path.stat().st_size)
