"""Files of a backbone: known by their sha256, and used from copies that nobody else can change."""

import fcntl
import hashlib
import os
import shutil
import stat
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from backbone.errors import BackboneError

_PIECE_BYTES: Final = 2**20
_OPENING: Final = ".opening-"  # begins the names of folders that hold copies for a moment
_LEFT_BEHIND_S: Final = 60.0  # far longer than it takes to lock a new one


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """A regular file, links followed, to be read; a pipe would make the reader wait for ever.

    Raises:
        FileNotFoundError: there is none.
        BackboneError: it is something else, or cannot be read.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BackboneError(f"{path} cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise BackboneError(f"{path} is not a regular file")
        with os.fdopen(number, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(number)


class PrivateFiles:
    """Copies of a backbone's files, verified, which nobody else can find, change or cut short.

    ONNX Runtime maps the weights: a file that is cut short under a server would end it (SIGBUS),
    one that is written to would change answers, and LoRA graphs are opened long after the start.
    A copy takes room on the disk for as long as it is mapped or kept, and has no name by then: it
    ends with the process, however that ends.
    """

    def __init__(self, folder: Path, digests: Mapping[str, str]) -> None:
        """Copy the files that `digests` names, sha256 by name.

        Raises:
            BackboneError: one is missing, is not what its sha256 says, or has no room.
        """
        self.source = folder
        self._kept: dict[str, int] = {}
        weakref.finalize(self, _close, self._kept)
        self._named: TemporaryDirectory[str] | None = None
        with ExitStack() as stack:
            named = self._make_folder()
            stack.enter_context(named)
            for name, expected in digests.items():
                if Path(name).name != name:
                    raise BackboneError(f"{folder}: the file {name!r} of the manifest is missing")
                self._take(name, expected, Path(named.name))
            stack.pop_all()
        self._named = named

    @contextmanager
    def folder(self, *names: str) -> Iterator[Path]:
        """A folder with these files, for as long as it takes to open them.

        What is mapped from there stays. To be used by one thread at a time. Raises BackboneError.
        """
        named, self._named = self._named, None  # what is opened first are the copies themselves
        with named or self._make_folder() as path:
            if named is None:
                for name in names:
                    self._copy_again(name, Path(path))
            try:
                yield Path(path)
            except BackboneError as error:  # it is about a folder that nobody will find
                raise BackboneError(str(error).replace(path, str(self.source))) from error

    def _make_folder(self) -> "TemporaryDirectory[str]":
        """Beside the backbone is a disk, with room most likely; else where temporary files are."""
        with suppress(OSError):
            _sweep(self.source.parent)
            return _OpeningFolder(self.source.parent)
        try:
            return _OpeningFolder(None)
        except OSError as error:
            raise self._no_room(error) from error

    def _take(self, name: str, expected: str, folder: Path) -> None:
        """Copy a file and see what it is, in one reading; it may be another one the next moment."""
        path, digest = self.source / name, hashlib.sha256()
        try:
            with open_regular(path) as source, (folder / name).open("xb") as copy:
                self._kept[name] = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
                while piece := source.read(_PIECE_BYTES):
                    digest.update(piece)
                    copy.write(piece)
        except FileNotFoundError:
            raise BackboneError(
                f"{self.source}: the file {name!r} of the manifest is missing"
            ) from None
        except OSError as error:
            raise self._no_room(error) from error
        if digest.hexdigest() != expected:
            raise BackboneError(
                f"{path} is not the file that was added: its sha256 differs from the manifest's; "
                "add the backbone again"
            )

    def _copy_again(self, name: str, folder: Path) -> None:
        number, offset = self._kept[name], 0
        try:
            with (folder / name).open("xb") as copy:
                while piece := os.pread(number, _PIECE_BYTES, offset):
                    copy.write(piece)
                    offset += len(piece)
        except OSError as error:
            raise self._no_room(error) from error

    def _no_room(self, error: OSError) -> BackboneError:
        return BackboneError(
            f"the files of {self.source} cannot be copied for this process alone: "
            f"{error.strerror or error}; make room beside them, or in another place with TMPDIR"
        )


class _OpeningFolder(TemporaryDirectory[str]):
    """A folder that is locked for as long as its process lives."""

    def __init__(self, parent: Path | None) -> None:
        super().__init__(prefix=_OPENING, dir=parent)
        lock = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_SH)


def _sweep(parent: Path) -> None:
    """Remove the folders of processes that were killed: nobody holds their locks."""
    for path in parent.glob(f"{_OPENING}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < _LEFT_BEHIND_S:
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(lock)


def _close(numbers: Mapping[str, int]) -> None:
    for number in numbers.values():
        os.close(number)
