"""Opening the file at the registry's path: at the start, and when another one came to be there."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from adapters.errors import RegistryUnavailable
from adapters.registry.opened import OpenedFile, is_log_foreign, replaced
from adapters.registry.pin import NotRegularFile, Pin, find
from adapters.registry.sqlite import RESTORE, connect, reason


def open_first(path: Path) -> OpenedFile:
    """The file at `path`, made where missing. Raises RegistryUnavailable."""
    _make_file(path)
    pin = take_pin(path)
    try:
        check_log(pin)
        return OpenedFile(pin)
    except BaseException:
        pin.release()
        raise


def open_again(path: Path, before: OpenedFile) -> OpenedFile:
    """The file that is at `path` now, if it is a sound registry. Raises RegistryUnavailable.

    `before` is the one that was open; it is retired, and still pinned.
    """
    pin = take_pin(path)
    try:
        with _alone(pin):
            _remove_old_log(pin, before)
            check_log(pin)
            _check_sound(pin)
            return OpenedFile(pin)
    except OSError as error:
        pin.release()
        raise RegistryUnavailable(f"{path} cannot be opened: {error.strerror}") from error
    except BaseException:
        pin.release()
        raise


def take_pin(path: Path) -> Pin:
    """Pin the file at `path`. Raises RegistryUnavailable."""
    try:
        return Pin.take(path)
    except FileNotFoundError as error:
        raise RegistryUnavailable(
            f"the registry's database {path} is missing: put it back, or {RESTORE}"
        ) from error
    except NotRegularFile as error:
        raise RegistryUnavailable(
            f"the registry's database {path} cannot be opened: {error}"
        ) from error
    except OSError as error:
        raise RegistryUnavailable(
            f"the registry's database {path} cannot be opened: {error.strerror}"
        ) from error


def check_log(pin: Pin) -> None:
    """Refuse a file beside another database's log, which SQLite would write into it."""
    if is_log_foreign(pin):
        raise RegistryUnavailable(
            f"the registry's database {pin.path} was replaced by hand: {pin.log_path} belongs to "
            f"another one, or to another state of it; {RESTORE}"
        )


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _check_no_log(path)
            path.touch(mode=0o600)
        elif path.is_file() and not path.stat().st_size:
            _check_no_log(path)
    except OSError as error:
        raise RegistryUnavailable(
            f"the registry's database {path} cannot be made: {error.strerror}"
        ) from error


def _check_no_log(path: Path) -> None:
    """Refuse to begin anew where a log says that there was a database: SQLite would delete it."""
    log = Path(f"{os.path.realpath(path)}-wal")
    if log.exists() and log.stat().st_size:
        raise RegistryUnavailable(
            f"the registry's database {path} is missing or empty, and its log {log} is not: put "
            f"the database back, or {RESTORE}"
        )


@contextmanager
def _alone(pin: Pin) -> Iterator[None]:
    """Keep other servers from following the same file at the same time."""
    try:
        fcntl.flock(pin.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise RegistryUnavailable("another server is reading it; try again") from error
    try:
        yield
    finally:
        fcntl.flock(pin.descriptor, fcntl.LOCK_UN)


def _remove_old_log(pin: Pin, before: OpenedFile) -> None:
    """Take away the log of a file that is not at the path any more, and its index.

    They are still the ones that were beside it: another server may have removed them, and have the
    new file's in their place.
    """
    if before.pin.file == pin.file:
        return
    log, index = before.log_files
    with suppress(FileNotFoundError):
        if log is not None and find(pin.log_path) == log:
            if pin.log_path.stat().st_size:
                pin.log_path.rename(replaced(pin.log_path))
            else:
                pin.log_path.unlink()
        if index is not None and find(pin.index_path) == index:
            pin.index_path.unlink()


def _check_sound(pin: Pin) -> None:
    """Read the file through. Raises RegistryUnavailable, also while somebody writes it."""
    seen = _looks(pin)
    if not seen[0]:
        raise RegistryUnavailable(f"{pin.path} is empty: {RESTORE}")
    try:
        with closing(connect(pin.path)) as connection:
            connection.execute("PRAGMA query_only = ON")
            [(said,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.DatabaseError as error:
        raise RegistryUnavailable(f"{pin.path} cannot be used: {reason(error)}") from error
    if said != "ok":
        raise RegistryUnavailable(f"{pin.path} is damaged, or not all there yet: {RESTORE}")
    if _looks(pin) != seen:
        raise RegistryUnavailable(f"{pin.path} is being written; it is read when that is done")


def _looks(pin: Pin) -> tuple[int, int]:
    found = os.fstat(pin.descriptor)
    return found.st_size, found.st_mtime_ns
