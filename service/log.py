"""The log: one JSON object a line, on standard error.

Nothing in it was said by a customer: route templates, names that were checked, ids, numbers. Values
are encoded, so that none can begin a line of its own. Libraries' own lines take the same form, and
so does all that is printed. Lines are written by a thread (`log_writer.py`): to log never waits and
never fails.
"""

import atexit
import logging
import os
import random
import re
import sys
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

import structlog

from service.log_writer import CLOSED, Backlog, LogWriter

_LIBRARIES: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "bentoml")
_STAMP: Final = structlog.processors.TimeStamper(fmt="iso", utc=True)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# W3C Trace Context: version, trace, parent, flags; neither id is all zeros.
_TRACEPARENT: Final = re.compile(
    r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.ASCII
)
_FAREWELL_S: Final = 1.0  # for what is left to be written at the end of the process


class LogState(NamedTuple):
    """How the log of this process is: what it has lost, and whether it is being lost now."""

    dropped: int
    is_failing: bool


class _Log:
    """The log of this process; nothing is written before it is configured."""

    writer: LogWriter | None = None
    # Used by `log_info`.
    info: structlog.typing.FilteringBoundLogger | None = None


class _Lines:
    """structlog's logger: one line for each call."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self._put = put

    def msg(self, message: str) -> None:
        """Write a line."""
        self._put(message + "\n")

    debug = info = warning = error = critical = msg


class _LinesHandler(logging.Handler):
    """The same for the standard library's loggers."""

    def __init__(self, put: Callable[[str], None]) -> None:
        super().__init__()
        self._put = put

    def createLock(self) -> None:  # noqa: N802  # its name in the standard library
        """None: `put` has its own, and two could be taken in two orders and never come free."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line."""
        try:
            line = self.format(record) + "\n"
        except Exception:  # arguments that do not fit the message, say
            line = _line("a line of the log could not be written", "error", logger=record.name)
        self._put(line)


def configure(level: str) -> None:
    """Set up all logging of this process."""
    minimum = logging.getLevelNamesMapping()[level.upper()]
    if _Log.writer is not None:
        _Log.writer.close()
    _Log.writer = writer = LogWriter(_descriptor(), Backlog(_loss_report))
    atexit.register(writer.flush, _FAREWELL_S)
    handler = _LinesHandler(writer.put)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                _STAMP,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _LIBRARIES:  # they come with handlers of their own
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.ERROR)  # uvicorn warns of whatever a client does
    # It logs metadata that is not UTF-8, a mistyped key perhaps, as it came.
    logging.getLogger("grpc._cython.cygrpc").addFilter(
        lambda record: not str(record.msg).startswith("Invalid encoding")
    )
    # Not through the loggers above: this is done at each request, and costs half as much.
    _Log.info = structlog.wrap_logger(
        _Lines(writer.put),
        processors=[
            structlog.processors.add_log_level,
            _STAMP,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        cache_logger_on_first_use=True,
    )


def log_state() -> LogState:
    """How the log is now; a log that was not configured loses nothing."""
    writer = _Log.writer
    return LogState(0, False) if writer is None else LogState(writer.dropped, writer.is_failing)


def flush_log() -> None:
    """Wait for a moment until all lines are written."""
    if _Log.writer is not None:
        _Log.writer.flush(_FAREWELL_S)


def _descriptor() -> int:
    """Standard error, held open: whatever closes it later ends no log."""
    if sys.stderr is None:  # closed when the process began; its number may be another file's now
        return CLOSED
    try:
        return os.dup(sys.stderr.fileno())
    except (OSError, ValueError):
        return CLOSED


def _loss_report(lines: int) -> bytes:
    return _line("log lines were lost here", "warning", lines=lines).encode()


def _line(event: str, level: str, **facts: object) -> str:
    """A line that goes through no logger."""
    made = _STAMP(None, level, {"event": event, **facts, "level": level})
    return str(structlog.processors.JSONRenderer()(None, level, made)) + "\n"


def log_request(
    event: Literal["http", "grpc"],
    traceparent: str | None,
    seconds: float,
    facts: Mapping[str, object],
) -> None:
    """One request was answered, within `seconds`."""
    trace = trace_id(traceparent)
    named = {} if trace is None else {"trace_id": trace}
    log_info(event, {"ms": round(1000 * seconds, 3), **named, **facts})


def log_info(event: str, facts: Mapping[str, object]) -> None:
    """Log what is no trouble, at level info; nothing before the log is configured."""
    if _Log.info is not None:
        _Log.info.info(event, **facts)


def request_id(given: str | None) -> str:
    """The caller's id of a request where it is one, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    # Not a secret; the system's random numbers let other threads take a turn at each request.
    return f"{random.getrandbits(64):016x}"


def trace_id(traceparent: str | None) -> str | None:
    """The trace that a `traceparent` header names; None where it is none."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match[1] if match else None
