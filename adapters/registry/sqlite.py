"""SQLite as the registry uses it: the URL, the settings of connections, its errors as ours."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, exc, make_url

from adapters.errors import InvalidInput, RegistryUnavailable

# Waited at most twice by one write, for the turn and for the file: well below the time that a
# request has, so that the registry's own refusal is what a client gets, and nothing happens later.
BUSY_TIMEOUT_S: Final = 3.0
RESTORE: Final = "restore a backup with `headstock registry restore`"
BUSY: Final = "the registry has too much to do; try again"

_BEGIN: Final = "headstock_begin"
_NO_WAL: Final = (
    "its file system cannot share memory between processes or lock files, which SQLite's "
    "write-ahead log needs (network drives often cannot): put it on a local disk, with "
    "HEADSTOCK_HOME or HEADSTOCK_DATABASE_URL"
)
# Extended codes that say the same; a disk that failed has others of their kind.
_NO_WAL_CODES: Final = frozenset(
    {
        *(f"SQLITE_IOERR_SHM{each}" for each in ("OPEN", "MAP", "LOCK", "SIZE")),
        *(f"SQLITE_IOERR_{each}" for each in ("LOCK", "RDLOCK", "UNLOCK", "CHECKRESERVEDLOCK")),
        "SQLITE_PROTOCOL",
    }
)
_REASONS: Final = {
    "SQLITE_BUSY": "another process holds it locked; try again",
    "SQLITE_LOCKED": "it is locked; try again",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it cannot be written: check the permissions of the file and its folder",
    "SQLITE_IOERR": "the disk failed to read or write",
    "SQLITE_CANTOPEN": "its file cannot be opened: check that it and its folder are accessible",
    "SQLITE_CORRUPT": f"its file is damaged: {RESTORE}",
    "SQLITE_NOTADB": f"the file is not an SQLite database: give another path, or {RESTORE}",
}


def sqlite_path(url: str) -> Path:
    """The absolute path of the file at `sqlite:///PATH`. Raises InvalidInput."""
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        raise InvalidInput("the registry's database URL cannot be read") from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise InvalidInput(
            f"the registry cannot use a database of kind {parsed.drivername[:40]!a}: "
            "use sqlite:///PATH"
        )
    name = parsed.database or ""
    # In memory nothing would last, and each connection of the pool would have its own database.
    # With two slashes the first folder would pass for a host and be dropped.
    if not name or name.startswith((":", "file:")) or parsed.query or parsed.host:
        raise InvalidInput("the registry's database must be a file: use sqlite:///PATH")
    return Path(name).absolute()


def make_engine(connect: Callable[[], sqlite3.Connection]) -> Engine:
    """A pool of the connections that `connect` makes, and transactions as `begin` wants them."""
    engine = create_engine(
        "sqlite:///",
        creator=connect,
        # Neither bytes, nor key digests, belong in the text of an error.
        hide_parameters=True,
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=56,
        pool_timeout=BUSY_TIMEOUT_S,
    )
    event.listen(engine, "begin", _begin)
    return engine


def writing(engine: Engine) -> Engine:
    """The same pool with write transactions.

    IMMEDIATE takes the write lock first: a transaction that reads and then writes can neither
    deadlock with another one nor find its reads outdated.
    """
    return engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})


class _Connection(sqlite3.Connection):
    """Ends its transaction when it is closed.

    SQLite keeps a closed connection for as long as something refers to one of its statements, such
    as the traceback of an error, and with it the transaction and its locks.
    """

    def close(self) -> None:
        """Give up every lock, and close."""
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


def connect(path: Path) -> sqlite3.Connection:
    """A connection that begins no transactions by itself, and has read nothing yet."""
    # Without `mode=rw` a file that was moved away would be made anew.
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode=rw",
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
        uri=True,
    )


def configure(connection: sqlite3.Connection) -> None:
    """Set up a new connection for transactions that last."""
    _use_wal(connection)
    # FULL: a commit is on disk before it is answered, also when the power fails.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


class NoWriteAheadLog(sqlite3.OperationalError):
    """SQLite kept another journal than the one that was asked for, and said nothing."""


def _use_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while (mode := _ask_for_wal(connection, deadline)) is None:
        time.sleep(0.01)
    if mode != "wal":
        raise NoWriteAheadLog(f"the journal is {mode!r}")


def _ask_for_wal(connection: sqlite3.Connection, deadline: float) -> str | None:
    """The journal's mode from now on; None while others are in the way, until the deadline."""
    try:
        [(mode,)] = connection.execute("PRAGMA journal_mode = WAL").fetchall()
    except sqlite3.OperationalError as error:
        # Changing the mode of a fresh file does not honour the busy timeout.
        if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
            raise
        return None
    return str(mode)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


@contextmanager
def explained(where: str = "") -> Iterator[None]:
    """Turn the database's failures into RegistryUnavailable; bugs of ours stay what they are."""
    try:
        yield
    except (exc.IntegrityError, exc.ProgrammingError, exc.DataError):
        raise
    except exc.DatabaseError as error:
        raise RegistryUnavailable(
            f"the registry's database{where} cannot be used: {reason(error.orig)}"
        ) from error
    except sqlite3.DatabaseError as error:
        raise RegistryUnavailable(
            f"the registry's database{where} cannot be used: {reason(error)}"
        ) from error
    except exc.TimeoutError as error:
        raise RegistryUnavailable(BUSY) from error


def reason(error: BaseException | None) -> str:
    """What an error of SQLite means, and what to do."""
    is_named = getattr(error, "sqlite_errorname", "") in _NO_WAL_CODES
    if is_named or isinstance(error, NoWriteAheadLog):
        return _NO_WAL
    return _REASONS.get(_code(error), "it reported an error; see the server's log")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether a file is no database, or it or its log is not a whole one."""
    is_short = getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHORT_READ"
    return is_short or _code(error) in ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def _code(error: BaseException | None) -> str:
    name: str = getattr(error, "sqlite_errorname", "")
    # Extended codes add to the plain ones: SQLITE_IOERR_WRITE, SQLITE_READONLY_DIRECTORY.
    return "_".join(name.split("_")[:2])
