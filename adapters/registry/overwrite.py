"""Puts a database in the place of another one: its pages into the same file, or another file."""

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from adapters.errors import RegistryUnavailable
from adapters.registry.backup import PAGES_AT_ONCE, sync
from adapters.registry.opened import open_private
from adapters.registry.pin import Pin
from adapters.registry.sqlite import BUSY_TIMEOUT_S, configure, connect
from adapters.registry.verify import Report

# Where SQLite keeps its locks on a file, whatever its size: those of readers and of writers.
_LOCK_START: Final = 0x40000000
_LOCK_BYTES: Final = 512
_RETRY_S: Final = 0.05


def overwrite(source: Path, target: Path, keep: Callable[[], None], report: Report) -> None:
    """Write the pages of `source` into `target`, in one transaction.

    `keep` is called when nobody else can write any more, and nothing has been written yet.

    Raises:
        RegistryUnavailable: another process holds the database locked.
        sqlite3.DatabaseError: it cannot be written; then nothing has changed.
    """
    with closing(connect(target)) as live:
        configure(live)
        _match_page_size(source, live)
        with closing(connect(source)) as copy:
            pages = copy.execute("PRAGMA page_count").fetchone()[0]
            copy.backup(
                live,
                # Two steps or more: the first one locks, and the last one commits.
                pages=max(1, min(PAGES_AT_ONCE, pages - 1)),
                progress=_watch(keep, report),
                sleep=_RETRY_S,
            )
        # Nobody waits for this: where readers are in the way, a server does it later.
        live.execute("PRAGMA busy_timeout = 0")
        live.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _watch(keep: Callable[[], None], report: Report) -> Callable[[int, int, int], None]:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    is_locked = False

    def progress(status: int, remaining: int, total: int) -> None:
        nonlocal is_locked
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            if time.monotonic() > deadline:
                raise RegistryUnavailable("another process holds the registry locked; try again")
            return
        if not is_locked:
            is_locked = True
            keep()
        report(total - remaining, total)

    return progress


def _match_page_size(source: Path, live: sqlite3.Connection) -> None:
    # A file with a log cannot change the size of its pages.
    wanted = live.execute("PRAGMA page_size").fetchone()[0]
    with closing(connect(source)) as copy:
        if copy.execute("PRAGMA page_size").fetchone()[0] == wanted:
            return
        copy.execute("PRAGMA journal_mode = DELETE").fetchall()
        copy.execute(f"PRAGMA page_size = {wanted}")
        copy.execute("VACUUM")
        copy.execute("PRAGMA journal_mode = WAL").fetchall()


def swap(source: Path, target: Path, kept: Path) -> None:
    """Let `source` take the place of `target`, which is kept, and so is its log.

    Raises:
        RegistryUnavailable: another process has the file open.
        OSError: a file cannot be renamed.
    """
    try:
        descriptor = os.open(target, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = None
    try:
        if descriptor is not None:
            _lock(descriptor)
            kept.hardlink_to(target)
        _own_as(source, target if descriptor is not None else target.parent)
        log = target.with_name(f"{target.name}-wal")
        if log.exists():
            log.rename(f"{kept}.wal")
        target.with_name(f"{target.name}-shm").unlink(missing_ok=True)
        source.chmod(0o600)
        sync(source)
        source.replace(target)
        sync(target.parent)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Take the locks of SQLite for as long as the descriptor is open."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            fcntl.lockf(
                descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _LOCK_START, os.SEEK_SET
            )
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            if time.monotonic() > deadline:
                raise RegistryUnavailable(
                    "the registry's file is damaged, and another process has it open: stop the "
                    "servers that use it, and restore again"
                ) from None
        time.sleep(_RETRY_S)


def keep_files(pin: Pin, kept: Path) -> None:
    """Copy the bytes of a database that cannot be read as one, and those of its log."""
    with open_private(kept) as copy:
        offset = 0
        while part := os.pread(pin.descriptor, 2**20, offset):
            copy.write(part)
            offset += len(part)
    if pin.log_path.exists():
        with open_private(Path(f"{kept}.wal")) as copy:
            copy.write(pin.log_path.read_bytes())


def _own_as(file: Path, other: Path) -> None:
    """Leave the file to whom the other one belongs: root may restore what a server's user has."""
    if os.geteuid() == 0:
        found = other.stat()
        os.chown(file, found.st_uid, found.st_gid)
