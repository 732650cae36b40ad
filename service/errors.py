"""The one table from the domain's errors to statuses. First match wins: subclasses stand first."""

import logging
import math
from dataclasses import dataclass

from adapters.errors import (
    Conflict,
    DeadlineExceeded,
    HeadstockError,
    InvalidInput,
    MissingScope,
    NotFound,
    Overloaded,
    RegistryUnavailable,
    StaleRevision,
    TenantOverloaded,
    TooLarge,
    Unauthenticated,
)
from adapters.heads import HeadFailed

logger = logging.getLogger(__name__)
_RETRY_AFTER_S = 1


class InvalidJson(InvalidInput):
    """The body is not the JSON that the route takes."""

    code = "invalid-json"


class TooSlow(HeadstockError):
    """The body did not arrive in time."""

    code = "too-slow"


class TimedOut(HeadstockError):
    """The request was not done within the time that one has."""

    code = "timed-out"


class ClientLeft(HeadstockError):
    """The client closed its connection before the answer; it is counted, and told nobody."""

    code = "client-left"


class AdapterUnavailable(HeadstockError):
    """The released version cannot answer here, which is no fault of who asks for an answer."""

    code = "adapter-unavailable"


class MethodNotAllowed(HeadstockError):
    """The path exists for other methods."""

    code = "method-not-allowed"


STATUS: tuple[tuple[type[HeadstockError], int, str], ...] = (
    (InvalidJson, 400, "The body cannot be read"),
    (TooSlow, 408, "Took too long"),
    (TooLarge, 413, "Too large"),
    (InvalidInput, 422, "Cannot be used as it is"),
    (NotFound, 404, "Not found"),
    (MethodNotAllowed, 405, "Method not allowed"),
    (StaleRevision, 412, "Changed in the meantime"),
    (Conflict, 409, "Contradicts the present state"),
    (Unauthenticated, 401, "A valid key is needed"),
    (MissingScope, 403, "The key does not allow this"),
    (TenantOverloaded, 429, "The tenant asks too much at once"),
    (Overloaded, 503, "The server is full"),
    (TimedOut, 503, "Not done in time"),
    (AdapterUnavailable, 503, "The adapter cannot answer here"),
    (RegistryUnavailable, 503, "The registry cannot be reached"),
    (DeadlineExceeded, 504, "Not done in the time given"),
    (ClientLeft, 499, "The client left"),
    (HeadFailed, 500, "The adapter failed"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told."""

    status: int
    code: str
    title: str
    detail: str
    retry_after_s: int | None = None


def to_problem(error: Exception) -> Problem:
    """The public side of an error. What is not meant for clients is logged and said in general."""
    for kind, status, title in STATUS:
        if isinstance(error, kind):
            return Problem(status, error.code, title, str(error), _retry_after(error, status))
    logger.error("a request failed inside the server", exc_info=error)
    detail = "the server failed on this request; its log has the reason"
    return Problem(500, HeadstockError.code, "Internal error", detail)


def _retry_after(error: HeadstockError, status: int) -> int | None:
    """Whole seconds, as the header wants them."""
    if isinstance(error, Overloaded):
        return max(1, math.ceil(error.retry_after_s))
    return _RETRY_AFTER_S if status == 503 else None
