"""Which database a file holds, read from its bytes: SQLite's header, and the log beside it.

SQLite applies a write-ahead log to whatever file it lies beside: nothing in a log names the
database that it was written for. So our databases carry two marks in their first page. Every write
transaction changes them there, and so they are in the log too:

* `history`, the short form of a random id that a database gets when it is created or restored
  (SQLite's application id);
* `generation`, which grows by one with each write transaction (SQLite's user version). It is 0 in a
  backup, and in a database that an older Headstock made. Multiples of 2^16 are of restores alone.

A log belongs to a file if its first transaction follows the file's state, or the file has the state
after one of its transactions. A restore writes every page, so a log that begins with one belongs to
any file.
"""

import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

HEADER_BYTES: Final = 100
_MAGIC: Final = b"SQLite format 3\0"
_LOG_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_LOG_MAGICS: Final = (0x377F0682, 0x377F0683)  # they differ in how checksums are computed
_MAX_GENERATION: Final = 2**31 - 1
_RESTORES: Final = 2**16


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of one state of a database."""

    history: int
    generation: int

    def may_follow(self, before: "Marks", history: int) -> bool:
        """Return whether transactions of the database `history` can lead from `before` to here."""
        if self == before:
            return True
        grew = before.history != history or self.generation >= before.generation
        return self.history == history and grew


@dataclass(frozen=True, slots=True)
class Log:
    """A write-ahead log: its header, which changes when it starts over, and its transactions."""

    header: bytes
    transactions: tuple[Marks, ...]

    def continues(self, file: Marks | None) -> bool:
        """Return whether the log belongs to a file with these marks (None: to no database)."""
        if not self.transactions or file in self.transactions:
            return True
        if file is None:
            return False
        first = self.transactions[0]
        if first.generation % _RESTORES == 0:
            return True
        is_same = file.history in (0, first.history)
        return is_same and next_generation(file.generation) == first.generation


def new_history() -> str:
    """A new random id, 32 hex digits."""
    return secrets.token_hex(16)


def short_history(history: str) -> int:
    """The part of an id that fits into the header: 31 bits, never 0."""
    return int(history[:8], 16) & 0x7FFFFFFF or 1


def next_generation(generation: int) -> int:
    """The generation of the transaction after `generation`."""
    following = generation % _MAX_GENERATION + 1
    return following if following % _RESTORES else following + 1


def restored_generation(generation: int) -> int:
    """The generation of a restore of a database at `generation`."""
    following = (generation // _RESTORES + 1) * _RESTORES
    return following if following <= _MAX_GENERATION else _RESTORES


def read_marks(page: bytes) -> Marks | None:
    """The marks in a database's first page; None if it is not the first page of a database."""
    if len(page) < HEADER_BYTES or not page.startswith(_MAGIC):
        return None
    (generation,) = struct.unpack_from(">i", page, 60)
    (history,) = struct.unpack_from(">i", page, 68)
    return Marks(history, generation)


def read_log(file: BinaryIO) -> Log:
    """The transactions of a write-ahead log that changed the marks, in their order."""
    header = file.read(_LOG_HEADER_BYTES)
    transactions = []
    latest: Marks | None = None
    for number, pages_after_commit, start in _frames(file, header):
        if number == 1:
            latest = read_marks(start)
        if pages_after_commit and latest is not None:
            transactions.append(latest)
            latest = None
    return Log(header, tuple(transactions))


def _frames(file: BinaryIO, header: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each frame's page number, database size after a commit (0: none), and start of the page.

    Frames with another salt are left over from before the log started over.
    """
    if len(header) < _LOG_HEADER_BYTES:
        return
    magic, _, page_size, _ = struct.unpack_from(">4I", header)
    if magic not in _LOG_MAGICS:
        return
    offset = _LOG_HEADER_BYTES
    while True:
        file.seek(offset)
        data = file.read(_FRAME_HEADER_BYTES + HEADER_BYTES)
        if len(data) < _FRAME_HEADER_BYTES + HEADER_BYTES or data[8:16] != header[16:24]:
            return
        number, pages_after_commit = struct.unpack_from(">2I", data)
        yield number, pages_after_commit, data[_FRAME_HEADER_BYTES:]
        offset += _FRAME_HEADER_BYTES + page_size
