"""The one table from the domain's errors to statuses. First match wins: subclasses stand first."""

import logging
import math
import re
from dataclasses import dataclass

from adapters.errors import (
    Conflict,
    DeadlineExceeded,
    HeadstockError,
    InvalidInput,
    MissingScope,
    NotFound,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    RegistryUnavailable,
    StaleRevision,
    TenantOverloaded,
    TooLarge,
    Unauthenticated,
)
from adapters.heads import HeadFailed

logger = logging.getLogger(__name__)
_RETRY_AFTER_S = 1
_PATH = re.compile(r" /\S+[^\s:;,]")


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


class UnsupportedCoding(HeadstockError):
    """The body is compressed in a way that is not unpacked here."""

    code = "unsupported-coding"


class MethodNotAllowed(HeadstockError):
    """The path exists for other methods."""

    code = "method-not-allowed"


# The error, the status of HTTP, the name of gRPC's, and what both say in a word.
STATUS: tuple[tuple[type[HeadstockError], int, str, str], ...] = (
    (InvalidJson, 400, "INVALID_ARGUMENT", "The body cannot be read"),
    (TooSlow, 408, "DEADLINE_EXCEEDED", "Took too long"),
    (UnsupportedCoding, 415, "UNIMPLEMENTED", "Compressed in a way that is not known here"),
    (TooLarge, 413, "INVALID_ARGUMENT", "Too large"),
    (InvalidInput, 422, "INVALID_ARGUMENT", "Cannot be used as it is"),
    (NotFound, 404, "NOT_FOUND", "Not found"),
    (MethodNotAllowed, 405, "UNIMPLEMENTED", "Method not allowed"),
    (StaleRevision, 412, "ABORTED", "Changed in the meantime"),
    (Conflict, 409, "FAILED_PRECONDITION", "Contradicts the present state"),
    (Unauthenticated, 401, "UNAUTHENTICATED", "A valid key is needed"),
    (MissingScope, 403, "PERMISSION_DENIED", "The key does not allow this"),
    (QuotaExceeded, 403, "RESOURCE_EXHAUSTED", "The tenant's quota is used up"),
    (RateLimited, 429, "RESOURCE_EXHAUSTED", "The tenant's quota of this minute is used up"),
    (TenantOverloaded, 429, "RESOURCE_EXHAUSTED", "The tenant asks too much at once"),
    (Overloaded, 503, "UNAVAILABLE", "The server is full"),
    # Not UNAVAILABLE, which clients of gRPC repeat by themselves: a change may have been made.
    (TimedOut, 503, "DEADLINE_EXCEEDED", "Not done in time"),
    (AdapterUnavailable, 503, "UNAVAILABLE", "The adapter cannot answer here"),
    (RegistryUnavailable, 503, "UNAVAILABLE", "The registry cannot be reached"),
    (DeadlineExceeded, 504, "DEADLINE_EXCEEDED", "Not done in the time given"),
    (ClientLeft, 499, "CANCELLED", "The client left"),
    (HeadFailed, 500, "INTERNAL", "The adapter failed"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told."""

    status: int
    grpc: str  # the name of gRPC's status
    code: str
    title: str
    detail: str
    retry_after_s: int | None = None


def to_problem(error: Exception) -> Problem:
    """The public side of an error. What is not meant for clients is logged and said in general."""
    for kind, status, grpc, title in STATUS:
        if isinstance(error, kind):
            detail = str(error)
            if isinstance(error, RegistryUnavailable):  # where its file lies is for the log alone
                detail = _PATH.sub("", detail)
            return Problem(status, grpc, error.code, title, detail, _retry_after(error, status))
    logger.error("a request failed inside the server", exc_info=error)
    detail = "the server failed on this request; its log has the reason"
    return Problem(500, "INTERNAL", HeadstockError.code, "Internal error", detail)


def _retry_after(error: HeadstockError, status: int) -> int | None:
    """Whole seconds, as the header wants them."""
    if isinstance(error, Overloaded):
        return max(1, math.ceil(error.retry_after_s))
    return _RETRY_AFTER_S if status == 503 else None
