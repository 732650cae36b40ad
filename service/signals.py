"""What signals do beside the server's own handling of SIGTERM and SIGINT."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

# A terminal that closes, and Ctrl-\\: whoever sends these wants the server to end, and the system
# would end it at once, with requests under way.
_ENDS: Final = (signal.SIGHUP, signal.SIGQUIT)
# Sent by tools that mean another server (to open its log again, say), or by the terminal to what
# runs in its background: the system would end or stop the server for them.
_NO_MEANING: Final = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTOU, signal.SIGTTIN)


def settle_signals() -> None:
    """Drain at every signal that asks for an end, and go on at those that mean nothing here."""
    for number in _ENDS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` wants it
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGTERM))
    for number in _NO_MEANING:
        signal.signal(number, signal.SIG_IGN)


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
