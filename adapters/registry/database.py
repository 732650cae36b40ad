"""The database: consistent reads, one write at a time, and the file that is at its path now."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from sqlalchemy import Connection

from adapters.errors import RegistryUnavailable
from adapters.registry import history, sqlite
from adapters.registry.opened import OpenedFile
from adapters.registry.opening import open_again, open_first
from adapters.registry.sqlite import BUSY, explained, sqlite_path

_RETRY_S: Final = 0.2  # to read a large file through is work


class Database:
    """One SQLite file: consistent read transactions and immediate write transactions.

    If another file comes to its path, that one is used from then on if it is a sound registry;
    until then reads and writes are refused. Writes are also refused until `adopt` is called.
    """

    def __init__(self, path: Path, opened: OpenedFile) -> None:
        self._path = path
        self._opened = opened
        opened.adopted = opened.history
        self.openings = 1  # how many files were opened
        self._turn = threading.Lock()
        self._opening = threading.Lock()
        self._refusal = ""
        self._retry_at = 0.0

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the file at `url`, made where missing, and bring its tables up to date.

        Raises:
            InvalidInput: not the URL of an SQLite file.
            RegistryUnavailable: the file cannot be used; the message names it and says why.
        """
        path = sqlite_path(url)
        return cls(path, open_first(path))

    def close(self) -> None:
        """Close every connection that is not in use; it is opened again when used again."""
        with self._opening:
            if not self._opened.is_retired:
                self._opened.retire("was closed")
            self._opened.let_go()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction in which every query sees the same moment."""
        with self._file() as opened, explained(), opened.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The only write transaction of the moment, on disk once this returns."""
        with (
            self._in_turn(),
            self._file() as opened,
            explained(),
            opened.writer.begin() as connection,
        ):
            if history.read_history(connection) != opened.adopted:
                raise RegistryUnavailable(
                    "the registry was restored or replaced, and this server is still reading it; "
                    "try again"
                )
            before = _changed_rows(connection)
            yield connection
            if _changed_rows(connection) != before:
                history.advance(connection)

    def adopt(self, openings: int, adopted: str) -> None:
        """Accept writes to the history `adopted`: all that decides on them has been read.

        It was read when `openings` files had been opened; nothing is accepted if more were since.
        """
        with self._opening:
            if self.openings == openings:
                self._opened.history = self._opened.adopted = adopted

    def checkpoint(self) -> None:
        """Empty the write-ahead log, if nobody is in the way."""
        opened = self._enter()
        try:
            opened.checkpoint()
        finally:
            opened.leave()

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        # SQLite's own waiting is a poll with growing sleeps: with 40 writing threads the unlucky
        # ones wait four times as long as in this queue.
        if not self._turn.acquire(timeout=sqlite.BUSY_TIMEOUT_S):
            raise RegistryUnavailable(BUSY)
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _file(self) -> Iterator[OpenedFile]:
        """The file at the path, checked before and after what is done with it."""
        opened = self._enter()
        try:
            yield opened
        except RegistryUnavailable:
            raise
        except Exception as error:
            # What a file says that is not the registry any more is no answer.
            self._check(opened, error)
            raise
        else:
            self._check(opened, None)
        finally:
            opened.leave()

    def _check(self, opened: OpenedFile, error: Exception | None) -> None:
        problem = opened.find_problem()
        if problem is not None:
            raise RegistryUnavailable(
                f"the registry's database {problem}, just now: a change may be lost; look before "
                "you repeat it"
            ) from error

    def _enter(self) -> OpenedFile:
        if not self._opening.acquire(timeout=sqlite.BUSY_TIMEOUT_S):
            raise RegistryUnavailable(BUSY)
        try:
            if not self._opened.is_retired:
                problem = self._opened.find_problem()
                if problem is not None:
                    self._opened.retire(problem)
            if self._opened.is_retired:
                self._follow()
            self._opened.enter()
            return self._opened
        finally:
            self._opening.release()

    def _follow(self) -> None:
        """Open the file that is at the path now. Raises RegistryUnavailable."""
        if time.monotonic() < self._retry_at:
            raise RegistryUnavailable(self._refusal)
        before = self._opened
        try:
            self._opened = open_again(self._path, before)
        except RegistryUnavailable as error:
            self._retry_at = time.monotonic() + _RETRY_S
            self._refusal = f"the registry's database {before.problem}; {error}"
            raise RegistryUnavailable(self._refusal) from error
        before.let_go()
        self.openings += 1


def _changed_rows(connection: Connection) -> int:
    """Count the rows that the connection has changed so far."""
    raw = connection.connection.driver_connection
    assert raw is not None
    return int(raw.total_changes)
