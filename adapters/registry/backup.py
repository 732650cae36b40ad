"""`headstock registry backup`: a copy of the registry in one file, also while servers write."""

import os
import secrets
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from adapters.errors import InvalidInput, RegistryUnavailable
from adapters.registry.opening import check_log, take_pin
from adapters.registry.pin import Pin, find
from adapters.registry.sqlite import connect, reason, sqlite_path
from adapters.registry.verify import Contents, Report, verify

Stage = Callable[[str], Report]  # by the name of what is done

PAGES_AT_ONCE: Final = 1024


def backup(url: str, target: Path, *, replace: bool, stage: Stage) -> Contents:
    """Copy the registry at `url` to the file `target`, checked in full before it is there.

    Raises:
        InvalidInput: there is a file already, or the registry is damaged.
        RegistryUnavailable: the registry cannot be read, or the file cannot be written.
    """
    path = sqlite_path(url)
    if not path.exists():
        raise InvalidInput(f"there is no registry at {path}: check HEADSTOCK_HOME")
    pin = take_pin(path)
    try:
        _check_target(target, pin, replace)
        check_log(pin)
        with _folder_beside(target) as folder:
            copy = Path(folder) / "copy"
            copy_database(path, copy, stage("copying"))
            contents = verify(copy, f"the registry {path}", stage("checking"))
            put_in_place(copy, target, replace=replace)
    except sqlite3.DatabaseError as error:
        raise RegistryUnavailable(
            f"the registry {path} cannot be copied to {target}: {reason(error)}"
        ) from error
    except OSError as error:
        raise RegistryUnavailable(f"{target} cannot be written: {error.strerror}") from error
    finally:
        pin.release()
    return contents


def copy_database(source: Path, target: Path, report: Report) -> None:
    """Copy one moment of a database that may be in use.

    The copy is marked as one: its own generation is 0. It holds nothing of what was deleted.

    Raises sqlite3.DatabaseError.
    """
    target.touch(mode=0o600)
    with (
        closing(connect(source)) as live,
        closing(connect(target)) as copy,
    ):
        # One read transaction: else a change between two steps would make it begin anew.
        live.execute("BEGIN")
        live.execute("SELECT count(*) FROM sqlite_master").fetchall()
        live.backup(copy, pages=PAGES_AT_ONCE, progress=_steps(report))
        live.execute("ROLLBACK")
        if _has_deleted(copy):
            copy.execute(
                "VACUUM"
            )  # what was deleted is in free pages still, and in parts of others
        copy.execute(f"PRAGMA application_id = {secrets.randbelow(2**31 - 1) + 1}")
        copy.execute("PRAGMA user_version = 0")


def _has_deleted(copy: sqlite3.Connection) -> bool:
    """Tell whether anything was ever deleted from a registry."""
    if not copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit'").fetchall():
        return False
    query = "SELECT 1 FROM audit WHERE action LIKE '%.delete' LIMIT 1"
    return bool(copy.execute(query).fetchall())


def put_in_place(file: Path, target: Path, *, replace: bool) -> None:
    """Give a finished file its name, lasting, and whole at any moment. Raises OSError."""
    file.chmod(0o600)
    sync(file)
    if not replace:
        target.touch(exist_ok=False)  # fails where there is a file by now, unlike what follows
    file.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Have a file that nobody else has open, or a folder, on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _steps(report: Report) -> Callable[[int, int, int], None]:
    def progress(status: int, remaining: int, total: int) -> None:
        if status in (sqlite3.SQLITE_OK, sqlite3.SQLITE_DONE):
            report(total - remaining, total)

    return progress


def _check_target(target: Path, pin: Pin, replace: bool) -> None:
    own = {pin.file, find(pin.log_path), find(pin.index_path)}
    if target.absolute() in (pin.path, pin.target, pin.log_path, pin.index_path) or (
        find(target) in own - {None}
    ):
        raise InvalidInput(f"{target} is the registry itself: give another file")
    if target.is_dir():
        raise InvalidInput(f"{target} is a folder: give the name of a file in it")
    if not os.path.lexists(target):
        return
    if not replace:
        raise InvalidInput(f"there is a file {target} already: give another name, or --replace")
    if target.exists() and not target.is_file():
        raise InvalidInput(f"{target} is not a regular file: give another name")


def _folder_beside(target: Path) -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix=".headstock-backup-", dir=target.absolute().parent)
