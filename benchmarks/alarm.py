"""A timer that is exact to some 0.1 ms: event loops round theirs up to whole milliseconds.

A millisecond is much beside an answer that takes three.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1  # on Linux also the clock of time.perf_counter
_NONBLOCK = os.O_NONBLOCK


class _Spec(ctypes.Structure):
    """struct itimerspec: the interval, then the moment."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "s", "ns"))


class Alarm:
    """Calls back in the running event loop at a moment of `time.perf_counter`; Linux's timerfd.

    Elsewhere it is the event loop's own timer.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK)
            self._loop.add_reader(self._file, self._ring)

    def set(self, moment: float) -> None:
        """Ring once at `moment`; at once where it has passed."""
        left = max(1e-6, moment - time.perf_counter())
        if self._file < 0:
            self._loop.call_later(left, self._call)
            return
        spec = _Spec(0, 0, int(left), int((left % 1) * 1e9))
        self._libc.timerfd_settime(self._file, 0, ctypes.byref(spec), None)

    def close(self) -> None:
        """Ring no more."""
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _ring(self) -> None:
        os.read(self._file, 8)
        self._call()
