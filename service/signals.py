"""What a signal does before the server's own handling of it begins."""

import signal
from collections.abc import Callable
from types import FrameType


def before_sigterm(notice: Callable[[], object]) -> None:
    """Call `notice` at SIGTERM, and then the handler that is there now. In the main thread only."""
    present = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        notice()
        if callable(present):
            present(number, frame)
        else:  # the system's own way, which is no function
            signal.signal(signal.SIGTERM, present)
            signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, handle)
