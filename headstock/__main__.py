"""Entry point of `headstock` and `python -m headstock`: handles SIGTERM before slow imports."""

import os
import signal
from types import FrameType


def main() -> None:
    """Run a command. From here on SIGTERM ends it at any moment, unless the command drains."""
    _end_at_sigterm()
    from headstock.cli import main as run

    run()


def _end_at_sigterm() -> None:
    """Let SIGTERM do what it does by default also in the first process of a container.

    The kernel keeps from that process every signal that it has no handler for. The image blocks
    SIGTERM until here, so that one that came while Python started is not lost.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)  # as a shell reports it


if __name__ == "__main__":
    main()
