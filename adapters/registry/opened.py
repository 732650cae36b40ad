"""One opened database file: its connections, and whether they may still be used.

The name of the file can come to mean another one while connections are open, and its bytes can be
overwritten under them. SQLite notices neither: it goes on with the file that it opened, with the
pages in its caches and with the log beside it. So every use is checked before and after.
"""

import os
import shutil
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from adapters.errors import RegistryUnavailable
from adapters.registry import history, migrate
from adapters.registry.identity import Marks, short_history
from adapters.registry.pin import FileId, Pin, find
from adapters.registry.sqlite import (
    configure,
    connect,
    explained,
    make_engine,
    writing,
)

_LOOKS_AT_LOG: Final = 10
_BETWEEN_LOOKS_S: Final = 0.02


class OpenedFile:
    """The connections to one pinned file, which is pinned until `let_go` and the last use."""

    def __init__(self, pin: Pin) -> None:
        """Open the file and bring its tables up to date.

        Raises:
            RegistryUnavailable: the file cannot be used; the message names it and says why.
        """
        self.pin = pin
        self.engine = make_engine(self._connect)
        self.writer = writing(self.engine)
        self._lock = threading.Lock()
        self._users = 0
        self._is_let_go = False
        self.problem: str | None = None  # of a retired one: why
        with explained(f" {pin.path}"):
            # Open for as long as the file is: so the log and its index stay where they are.
            self._keeper = self._connect()
            try:
                self._keeper.execute("PRAGMA busy_timeout = 0")
                self._migrate()
            except BaseException:
                self._close()
                raise
        self.log_files = self._log_files()
        self._marks = pin.marks() or Marks(0, 0)
        self._size = pin.size()
        # The id that writes are meant for; None until somebody has read what the file says.
        self.adopted: str | None = None

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self.pin.path)
        try:
            # Asked after the file was opened, and before anything is read through its log.
            if find(self.pin.path) != self.pin.file:
                raise RegistryUnavailable("the registry's database was replaced; try again")
            configure(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self) -> None:
        with self.engine.begin() as connection:
            is_current = migrate.is_current(connection, self.pin.path)
            if is_current and history.read_generation(connection):
                self.history = history.read_history(connection)
                return
        with self.writer.begin() as connection:
            migrate.upgrade(connection, self.pin.path)
            if not history.read_generation(connection):
                history.begin_history(connection, 1)
            self.history = history.read_history(connection)
        self.checkpoint()

    def enter(self) -> None:
        """Somebody begins to use the connections."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Somebody has ended."""
        with self._lock:
            self._users -= 1
            if self.is_retired and not self._users:
                self._close()

    @property
    def is_retired(self) -> bool:
        """Return whether the file may not be used any more."""
        return self.problem is not None

    def retire(self, problem: str) -> None:
        """Close the connections, those in use when they are given back.

        Raises RegistryUnavailable: a log that must not be written into the file is in the way.
        """
        try:
            self._set_foreign_log_aside()
        except OSError as error:
            raise RegistryUnavailable(
                f"the registry's database {problem}, and its log cannot be set aside: "
                f"{error.strerror}"
            ) from error
        with self._lock:
            self.problem = problem
            if not self._users:
                self._close()

    def let_go(self) -> None:
        """Unpin the file, of a retired one: its inode may be given to another file from now on."""
        with self._lock:
            self._is_let_go = True
            if not self._users:
                self.pin.release()

    def _close(self) -> None:
        self.engine.dispose()
        self._keeper.close()
        if self._is_let_go:
            self.pin.release()

    def find_problem(self) -> str | None:
        """Why the file may not be used any more; None while it is the one that was opened."""
        if find(self.pin.path) != self.pin.file:
            return "was moved, deleted or replaced by another file"
        with self._lock:  # what two threads read must not be compared in the wrong order
            try:
                marks, size = self.pin.marks(), self.pin.size()
            except OSError as error:
                return f"cannot be read: {error.strerror}"
            if marks is None:
                return "was emptied or overwritten with something else"
            if not marks.may_follow(self._marks, short_history(self.history)):
                return "was restored, or overwritten with another state"
            if size < self._size:
                return "was cut short"
            self._marks, self._size = marks, size
        if self._log_files() != self.log_files:
            return "lost its -wal or -shm file"
        return None

    def _log_files(self) -> tuple[FileId | None, FileId | None]:
        return find(self.pin.log_path), find(self.pin.index_path)

    def checkpoint(self) -> None:
        """Bring what is in the log into the file, if nobody is in the way.

        An empty log does no harm to a file that somebody copies over this one.
        """
        with suppress(OSError):
            if not self.pin.log_path.stat().st_size:
                return
        with self._lock, explained():
            if self.is_retired:
                return
            self._keeper.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _set_foreign_log_aside(self) -> None:
        """Keep SQLite from writing the log of another database into the file when it is closed."""
        if find(self.pin.path) != self.pin.file or not is_log_foreign(self.pin):
            return
        # Connections have it open, of other servers too: it is emptied, not taken away.
        with self.pin.log_path.open("r+b") as log:
            with open_private(replaced(self.pin.log_path)) as aside:
                shutil.copyfileobj(log, aside)
            log.truncate(0)


def replaced(log: Path) -> Path:
    """Where a log is kept whose database is not the one beside it any more."""
    return log.with_name(f"{log.name}.replaced")


def open_private(path: Path) -> BinaryIO:
    """Open a file for writing, made for its owner alone."""
    return os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
    )


def is_log_foreign(pin: Pin) -> bool:
    """Return whether the log beside a file is of another database, or another state of it."""
    for _ in range(_LOOKS_AT_LOG):
        seen = pin.marks(), pin.log()
        if seen[1].continues(seen[0]):
            return False
        time.sleep(_BETWEEN_LOOKS_S)
        if seen == (pin.marks(), pin.log()):
            return True
    return False  # it moves: somebody writes, and looks after it
