"""Writes the log from a thread of its own, so that no request ever waits for a disk or a reader.

Whatever becomes of the log, `put` returns at once and raises nothing. Lines wait in a backlog of
bounded size; what finds no place there is counted, and reported in the log when it works again.
"""

import contextlib
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

MOST_LINES: Final = 20_000
MOST_BYTES: Final = 4 * 2**20
CLOSED: Final = -1  # the descriptor of a log that is closed: every write to it fails
_BATCH_BYTES: Final = 64 * 2**10
# Each look at the backlog costs the event loop a switch of threads, and to wake the thread costs it
# more: the lines of some milliseconds share a look, and the thread sleeps for good only after a
# while with none.
_LOOK_S: Final = 0.02
_LAST_LOOK: Final = 50  # with nothing to write
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.05, 1.0
_STALLED_S: Final = 1.0  # a write that takes longer is one that nobody reads


class Backlog:
    """Lines that wait to be written, in their order, within bounds."""

    def __init__(
        self,
        loss_report: Callable[[int], bytes],
        most_lines: int = MOST_LINES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.dropped = 0  # since the start
        self.unreported = 0  # dropped since the last report of it
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._loss_report = loss_report
        self._most_lines, self._most_bytes = most_lines, most_bytes

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: bytes) -> None:
        """Append a line, or count it where it finds no place."""
        size = len(line)
        if len(self._lines) >= self._most_lines or self._bytes + size > self._most_bytes:
            self.dropped += 1
            self.unreported += 1
            return
        self._report_loss()
        self._lines.append(line)
        self._bytes += size

    def take(self, most_bytes: int = _BATCH_BYTES) -> bytes:
        """Remove and return the oldest lines, one at least; nothing where none waits."""
        if not self._lines:
            self._report_loss()
        taken, size = list[bytes](), 0
        while self._lines and (not taken or size + len(self._lines[0]) <= most_bytes):
            line = self._lines.popleft()
            taken.append(line)
            size += len(line)
        self._bytes -= size
        return b"".join(taken)

    def _report_loss(self) -> None:
        """A line that says how many are missing at this place."""
        if self.unreported:
            lost, self.unreported = self.unreported, 0
            report = self._loss_report(lost)
            self._lines.append(report)
            self._bytes += len(report)


def restart_line(batch: bytes, written: int) -> bytes:
    """What is left of a batch whose write failed: whole lines, apart from the piece of one."""
    start = batch.rfind(b"\n", 0, written) + 1
    return batch[start:] if start == written else b"\n" + batch[start:]


class LogWriter:
    """Writes lines to a descriptor. Every method may be called from any thread, `put` also from
    signal handlers and finalizers."""

    def __init__(self, descriptor: int, backlog: Backlog) -> None:
        self._descriptor = descriptor
        self._backlog = backlog
        self._lock = threading.RLock()  # a finalizer may log while its thread is in `put`
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._is_awake = False  # the thread will look at the backlog without being told
        self._is_writing = False
        self._is_closed = False
        self._has_failed = False  # the latest write
        self._write_began = 0.0
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    @property
    def dropped(self) -> int:
        """Lines that found no place in the backlog."""
        return self._backlog.dropped

    @property
    def is_failing(self) -> bool:
        """Whether lines are being lost, or will be: writes fail, or the latest does not end."""
        if self._has_failed or self._backlog.unreported:
            return True
        return self._is_writing and time.monotonic() - self._write_began > _STALLED_S

    def put(self, text: str) -> None:
        """Write a text that ends a line, soon."""
        line = text.encode("utf-8", "backslashreplace")
        with self._lock:
            self._backlog.add(line)
            if self._is_awake:
                return
            self._is_awake = True
        self._wake.put(None)

    def flush(self, seconds: float) -> None:
        """Wait until all is written, for so many seconds at most."""
        deadline = time.monotonic() + seconds
        while (self._backlog or self._is_writing) and time.monotonic() < deadline:
            time.sleep(_LOOK_S / 10)

    def close(self, seconds: float = 1.0) -> None:
        """Flush, and end the thread unless a write holds it."""
        self.flush(seconds)
        self._is_closed = True
        self._wake.put(None)

    def _run(self) -> None:
        while True:
            self._wake.get()
            looks = 0
            while looks < _LAST_LOOK and not self._is_closed:
                time.sleep(_LOOK_S)
                looks = 0 if self._write_all() else looks + 1
            with self._lock:
                if self._is_closed:
                    return
                if self._backlog:
                    self._wake.put(None)
                else:
                    self._is_awake = False

    def _write_all(self) -> bool:
        """Write what waits; whether there was anything."""
        found = False
        while True:
            with self._lock:
                batch = self._backlog.take()
                self._is_writing, self._write_began = bool(batch), time.monotonic()
            if not batch:
                return found
            found = True
            self._write(batch)

    def _write(self, batch: bytes) -> None:
        """Write a batch, however often that has to be tried."""
        retry_s = _FIRST_RETRY_S
        while batch and not self._is_closed:
            written, size = 0, self._size()
            try:
                while written < len(batch) and not self._is_closed:
                    written += self._write_some(batch[written:])
                return
            except OSError:
                self._has_failed = True
            time.sleep(retry_s)
            retry_s = min(2 * retry_s, _LONGEST_RETRY_S)
            # A file that nobody has touched goes on within the line.
            is_intact = size is not None and self._size() == size + written
            batch = batch[written:] if is_intact else restart_line(batch, written)

    def _write_some(self, content: bytes) -> int:
        try:
            written = os.write(self._descriptor, content)
        except BlockingIOError:  # the descriptor is not a blocking one, and its reader is slow
            waiting = select.poll()
            waiting.register(self._descriptor, select.POLLOUT)
            waiting.poll(1000 * _LONGEST_RETRY_S)
            return 0
        self._write_began, self._has_failed = time.monotonic(), False
        return written

    def _size(self) -> int | None:
        """The size of the log where it is a file."""
        with contextlib.suppress(OSError):
            status = os.fstat(self._descriptor)
            return status.st_size if stat.S_ISREG(status.st_mode) else None
        return None
