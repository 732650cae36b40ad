"""`headstock registry restore`: the registry's content replaced, also while servers run.

The backup is copied beside the registry, checked in full and brought up to date there. Then its
pages are written into the registry's own file in one transaction of SQLite, under SQLite's locks:
whoever reads sees all of the old state or all of the new one, and a process that is killed leaves
the old one. If SQLite cannot open that file, another one takes its place, which needs that no
process has it open.
"""

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from adapters.errors import InvalidInput, RegistryUnavailable
from adapters.registry import history
from adapters.registry.audit import Write
from adapters.registry.backup import Stage, copy_database
from adapters.registry.identity import restored_generation
from adapters.registry.opened import OpenedFile, is_log_foreign
from adapters.registry.opening import take_pin
from adapters.registry.overwrite import keep_files, overwrite, swap
from adapters.registry.pin import Pin, find
from adapters.registry.sqlite import connect, explained, is_damage, sqlite_path
from adapters.registry.verify import Contents, check_columns, verify


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and where what was there before is kept (None: there was nothing)."""

    contents: Contents
    kept: Path | None


def restore(url: str, file: Path, *, stage: Stage) -> Restored:
    """Let the registry at `url` be what the backup `file` says.

    Raises:
        InvalidInput: the file is not a sound registry; nothing was changed.
        RegistryUnavailable: the registry cannot be written now; nothing was changed.
    """
    path = sqlite_path(url)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = Path(os.path.realpath(path))
        with tempfile.TemporaryDirectory(prefix=".headstock-restore-", dir=target.parent) as folder:
            staged = Path(folder) / "staged"
            _copy_in(file, staged, target)
            contents = verify(staged, str(file), stage("checking"))
            _bring_up_to_date(staged, file, contents)
            with explained(f" {path}"):
                return Restored(contents, _install(staged, target, stage))
    except OSError as error:
        raise RegistryUnavailable(
            f"the registry {path} cannot be restored: {error.strerror or error}"
        ) from error


def _copy_in(file: Path, staged: Path, target: Path) -> None:
    """Copy the backup, with its log if it has one: what is checked is what is restored."""
    if find(file) is not None and find(file) == find(target):
        raise InvalidInput(f"{file} is the registry itself: give a backup")
    try:
        _copy_file(file, staged)
        log = Path(f"{os.path.realpath(file)}-wal")
        if log.exists() and log.stat().st_size:
            _copy_file(log, Path(f"{staged}-wal"))
        journal = Path(f"{os.path.realpath(file)}-journal")
        is_half_written = journal.exists() and journal.stat().st_size > 0
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror or error}") from error
    if is_half_written:
        raise InvalidInput(f"{file} is in use, or was left half-written: {journal} is beside it")
    if not staged.stat().st_size:
        raise InvalidInput(f"{file} is empty")
    pin = Pin.take(staged)
    try:
        if is_log_foreign(pin):
            raise InvalidInput(
                f"{log} belongs to another database than {file}, or to another state of it: move "
                "it away if the file is whole without it"
            )
    finally:
        pin.release()


def _copy_file(source: Path, target: Path) -> None:
    # Without O_NONBLOCK a pipe would be waited for.
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as content:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is not a regular file")
        with target.open("xb") as copy:
            shutil.copyfileobj(content, copy, 2**20)


def _install(staged: Path, target: Path, stage: Stage) -> Path | None:
    """Replace the content of the registry; where what was there is kept."""
    kept = _free_name(target)
    if not target.exists():
        _mark(staged, 0)
        swap(staged, target, kept)
        return None
    pin = take_pin(target)
    try:
        if pin.marks() is None or not _overwrite(staged, pin, kept, stage):
            _mark(staged, 0)
            swap(staged, target, kept)
    finally:
        pin.release()
    return kept


def _overwrite(staged: Path, pin: Pin, kept: Path, stage: Stage) -> bool:
    """Write the copy into the registry's file; False if SQLite cannot use that at all."""
    is_foreign = is_log_foreign(pin)

    def keep() -> None:
        if is_foreign:  # what SQLite makes of both is nothing to keep
            keep_files(pin, kept)
        else:
            _keep(pin, kept, stage)

    try:
        with closing(connect(pin.target)) as connection:
            [(generation,)] = connection.execute("PRAGMA user_version").fetchall()
        _mark(staged, generation)
        overwrite(staged, pin.target, keep, stage("restoring"))
    except BaseException as error:
        for file in (kept, Path(f"{kept}.wal")):
            file.unlink(missing_ok=True)
        if isinstance(error, sqlite3.DatabaseError) and is_damage(error):
            return False
        raise
    return True


def _keep(pin: Pin, kept: Path, stage: Stage) -> None:
    try:
        copy_database(pin.target, kept, stage("keeping"))
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        keep_files(pin, kept)


def _bring_up_to_date(staged: Path, file: Path, contents: Contents) -> None:
    """Bring the copy's tables up to date, and write into its audit trail what is done."""
    try:
        with _changing(staged):
            pass  # to open it is to bring its tables up to date
    except RegistryUnavailable as error:
        raise InvalidInput(f"{file} cannot be brought up to date: {error}") from error
    check_columns(staged, str(file))
    with _changing(staged) as connection:
        restored = Write(connection, datetime.now(UTC), "setup")
        restored.log("registry.restore", None, changes=contents.changes)


def _mark(staged: Path, generation: int) -> None:
    """Make the copy another history, which follows on what was at `generation`."""
    with _changing(staged) as connection:
        history.begin_history(connection, restored_generation(generation))


@contextmanager
def _changing(staged: Path) -> Iterator[Connection]:
    """A transaction on the copy, after which it is one file with no log."""
    pin = Pin.take(staged)
    try:
        opened = OpenedFile(pin)
        try:
            with opened.writer.begin() as connection:
                yield connection
        finally:
            opened.retire("was prepared")
    finally:
        pin.release()


def _free_name(target: Path) -> Path:
    """Where to keep what is at the path now: a name that says when."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    names = (
        target.with_name(f"{target.name}.before-restore-{moment}{suffix}")
        for suffix in ("", *(f"-{number}" for number in range(2, 1000)))
    )
    return next(name for name in names if not os.path.lexists(name))
