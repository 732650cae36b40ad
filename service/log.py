"""The log: one JSON object a line, on standard error.

Nothing in it was said by a customer: route templates, names that were checked, ids, numbers. Values
are encoded, so that none can begin a line of its own. Libraries' own lines take the same form.
"""

import logging
import random
import re
import sys
from collections.abc import Mapping
from typing import Final, Literal

import structlog
from structlog.typing import Processor

_LIBRARIES: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "bentoml")
_STAMP: Final[Processor] = structlog.processors.TimeStamper(fmt="iso", utc=True)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# W3C Trace Context: version, trace, parent, flags; neither id is all zeros.
_TRACEPARENT: Final = re.compile(
    r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.ASCII
)
# Written by `log_request`; until logging is configured, nothing is.
_requests: structlog.typing.FilteringBoundLogger | None = None


def configure(level: str) -> None:
    """Set up all logging of this process."""
    global _requests
    minimum = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler(sys.stderr)
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
    _requests = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            _STAMP,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        cache_logger_on_first_use=True,
    )


def log_request(
    event: Literal["http", "grpc"],
    traceparent: str | None,
    seconds: float,
    facts: Mapping[str, object],
) -> None:
    """One request was answered, within `seconds`."""
    if _requests is None:
        return
    trace = trace_id(traceparent)
    named = {} if trace is None else {"trace_id": trace}
    _requests.info(event, ms=round(1000 * seconds, 3), **named, **facts)


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
