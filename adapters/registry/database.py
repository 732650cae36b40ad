"""The engine: SQLite's settings, its transactions, its errors as ours, and the way to head."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from adapters.errors import InvalidInput, RegistryUnavailable
from adapters.registry import migrate

# Waited at most twice by one write, for the turn and for the file: well below the time that a
# request has, so that the registry's own refusal is what a client gets, and nothing happens later.
BUSY_TIMEOUT_S: Final = 3.0

_BEGIN: Final = "headstock_begin"
_BUSY: Final = "the registry has too much to do; try again"
_REASONS: Final = {
    "SQLITE_BUSY": "another process holds it locked; try again",
    "SQLITE_LOCKED": "it is locked; try again",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it cannot be written: check the permissions of the file and its folder",
    "SQLITE_IOERR": "the disk failed to read or write",
    "SQLITE_CANTOPEN": "its file cannot be opened: check that it and its folder are accessible",
    "SQLITE_CORRUPT": "its file is damaged: restore a backup",
    "SQLITE_NOTADB": "the file is not an SQLite database: give another path, or restore a backup",
}


class Database:
    """One SQLite file: consistent read transactions and immediate write transactions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # IMMEDIATE takes the write lock first: a transaction that reads and then writes can
        # neither deadlock with another one nor find its reads outdated.
        self._writer = engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._turn = threading.Lock()

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the file at `url`, made where missing, and bring its tables up to date.

        Raises:
            InvalidInput: not the URL of an SQLite file.
            RegistryUnavailable: the file cannot be used; the message names it and says why.
        """
        path = sqlite_path(url)
        database = cls(_make_engine(path))
        try:
            with _explained(f" {path}"):
                _make_file(path)
                database._migrate(path)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction in which every query sees the same moment."""
        with _explained(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The only write transaction of the moment, on disk once this returns."""
        with self._in_turn(), _explained(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        # SQLite's own waiting is a poll with growing sleeps: with 40 writing threads the unlucky
        # ones wait four times as long as in this queue.
        if not self._turn.acquire(timeout=BUSY_TIMEOUT_S):
            raise RegistryUnavailable(_BUSY)
        try:
            yield
        finally:
            self._turn.release()

    def _migrate(self, path: Path) -> None:
        with self._engine.begin() as connection:
            if migrate.is_current(connection, path):
                return
        with self._writer.begin() as connection:
            migrate.upgrade(connection, path)


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


def _make_engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        # Neither bytes, nor key digests, belong in the text of an error.
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_S},
        pool_size=8,
        max_overflow=56,
        pool_timeout=BUSY_TIMEOUT_S,
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
    except OSError as error:
        raise RegistryUnavailable(
            f"the registry's database {path} cannot be made: {error.strerror}"
        ) from error


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    # sqlite3's own transaction control starts none for SELECT or CREATE TABLE: SQLAlchemy's
    # "begin" event does it instead.
    connection.isolation_level = None
    _use_wal(connection)
    # FULL: a commit is on disk before it is answered, also when the power fails.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            # Changing the mode of a fresh file does not honour the busy timeout.
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


@contextmanager
def _explained(where: str = "") -> Iterator[None]:
    """Turn the database's failures into RegistryUnavailable; bugs of ours stay what they are."""
    try:
        yield
    except (exc.IntegrityError, exc.ProgrammingError, exc.DataError):
        raise
    except exc.DatabaseError as error:
        reason = _reason(error.orig)
        raise RegistryUnavailable(
            f"the registry's database{where} cannot be used: {reason}"
        ) from error
    except exc.TimeoutError as error:
        raise RegistryUnavailable(_BUSY) from error


def _reason(error: BaseException | None) -> str:
    name = getattr(error, "sqlite_errorname", "")
    # Extended codes add to the plain ones: SQLITE_IOERR_WRITE, SQLITE_READONLY_DIRECTORY.
    plain = "_".join(name.split("_")[:2])
    return _REASONS.get(plain, "it reported an error; see the server's log")
