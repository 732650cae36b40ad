"""Holds on to the file at a path, and tells whether it is still the one there.

Closing any descriptor of a file gives up every lock that the process holds on it (POSIX), those of
SQLite's own connections too. So a pin is released after all connections to the file are closed, and
pins of the same file share its descriptors, which are closed with the last of them.
"""

import os
import stat
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final, Self

from adapters.registry.identity import HEADER_BYTES, Log, Marks, read_log, read_marks

FileId = tuple[int, int]  # device and inode

_LOCK: Final = threading.Lock()
_DESCRIPTORS: Final = defaultdict[FileId, list[int]](list)
_PINS: Final = Counter[FileId]()


class NotRegularFile(OSError):
    """A path leads to something that cannot be a database: a folder, a pipe, a device."""


class Pin:
    """One file, whatever happens to its name. `target` is the path behind symbolic links."""

    def __init__(self, path: Path, file: FileId) -> None:
        self.path = path
        self.target = Path(os.path.realpath(path))
        self.file = file
        self.descriptor = _DESCRIPTORS[file][0]
        self._released = False

    @classmethod
    def take(cls, path: Path) -> Self:
        """Pin the file at `path`. Raises OSError, NotRegularFile."""
        with _LOCK:
            file = identify(path)
            if not _DESCRIPTORS[file]:
                descriptor = _open(path)
                try:
                    file = _id_of(os.fstat(descriptor))  # it may be another one by now
                except OSError:
                    os.close(descriptor)
                    raise
                _DESCRIPTORS[file].append(descriptor)
            _PINS[file] += 1
        return cls(path, file)

    def release(self) -> None:
        """Let go; nothing happens the second time."""
        with _LOCK:
            if self._released:
                return
            self._released = True
            _PINS[self.file] -= 1
            if not _PINS[self.file]:
                del _PINS[self.file]
                for descriptor in _DESCRIPTORS.pop(self.file):
                    os.close(descriptor)

    @property
    def log_path(self) -> Path:
        """Where SQLite keeps the write-ahead log."""
        return self.target.with_name(f"{self.target.name}-wal")

    @property
    def index_path(self) -> Path:
        """Where SQLite keeps the log's index, which processes share."""
        return self.target.with_name(f"{self.target.name}-shm")

    def marks(self) -> Marks | None:
        """Read the marks of the file on disk, without its log; None if it is not a database."""
        return read_marks(os.pread(self.descriptor, HEADER_BYTES, 0))

    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self.descriptor).st_size

    def log(self) -> Log:
        """The write-ahead log at its path; an empty one if there is none. Raises OSError."""
        try:
            with self.log_path.open("rb") as file:
                return read_log(file)
        except FileNotFoundError:
            return Log(b"", ())


def _open(path: Path) -> int:
    # Without O_NONBLOCK, opening a pipe that took the file's place would wait for ever.
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    try:
        # For writing, as SQLite: in a container's layers that makes the file another one.
        return os.open(path, os.O_RDWR | flags)
    except OSError:
        return os.open(path, os.O_RDONLY | flags)


def identify(path: Path) -> FileId:
    """Device and inode of the file at a path. Raises OSError, NotRegularFile."""
    return _id_of(path.stat())


def find(path: Path) -> FileId | None:
    """Device and inode of the file at a path; None if there is none."""
    try:
        return identify(path)
    except OSError:
        return None


def _id_of(found: os.stat_result) -> FileId:
    if not stat.S_ISREG(found.st_mode):
        raise NotRegularFile("it is not a regular file")
    return found.st_dev, found.st_ino
