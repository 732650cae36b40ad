"""What reaches standard output and error past the loggers, taken into the log.

Prints of libraries, warnings, and errors that nobody caught would be written there by the thread
that they happen in, which then waits for as long as nobody reads.
"""

import io
import logging
import sys
import threading
from types import TracebackType

logger = logging.getLogger(__name__)
_LONGEST_LINE = 8192  # characters; the rest is the next line


class LoggedStream(io.TextIOBase):
    """A text stream whose lines are warnings of the logger that it is named after."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._of_thread = threading.local()  # what each has written of a line

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Log the lines that end in a text, and keep its rest."""
        *lines, rest = (self._begun() + text).split("\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], ""
        self._of_thread.begun = rest
        for line in filter(None, lines):
            self._logger.warning("%s", line)
        return len(text)

    def flush(self) -> None:
        """Log what is there of a line."""
        begun, self._of_thread.begun = self._begun(), ""
        if begun:
            self._logger.warning("%s", begun)

    def _begun(self) -> str:
        begun: str = getattr(self._of_thread, "begun", "")
        return begun


def capture_output() -> None:
    """Take all that this process prints from now on into the log, one event for each error."""
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_of_thread
    sys.unraisablehook = _log_unraisable
    sys.stdout, sys.stderr = LoggedStream("stdout"), LoggedStream("stderr")


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    logger.critical("an error ends the process", exc_info=(kind, error, traceback))


def _log_of_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_type is SystemExit:
        return
    name = "unknown" if failed.thread is None else failed.thread.name
    logger.error("an error ended the thread %s", name, exc_info=failed.exc_value)


def _log_unraisable(failed: "sys.UnraisableHookArgs") -> None:
    logger.error("%s", failed.err_msg or "an error was ignored", exc_info=failed.exc_value)
