"""What goes wrong between a client and a server, and how a refusal is read."""

import contextlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from adapters.errors import HeadstockError


class RequestFailed(HeadstockError):
    """The server refused, or could not be reached.

    `code` and `status` are the server's; `status` is None where there was no answer.
    `retry_after_s` is when it said that the same request may go through.
    """

    def __init__(
        self,
        message: str,
        code: str = "request-failed",
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # the server's code, not the type's
        self.status = status
        self.retry_after_s = retry_after_s


def unanswered(server: str, error: httpx.HTTPError) -> RequestFailed:
    """There is no answer."""
    reason = str(error) or type(error).__name__
    failed = RequestFailed(
        f"no answer from {server}: {reason}; is the server up? Start it with: headstock serve"
    )
    failed.__cause__ = error
    return failed


def refusal(response: httpx.Response) -> RequestFailed:
    """What an answer that is no success says."""
    after_s = _retry_after(response.headers.get("retry-after"))
    try:
        said = response.json()
        if "error" in said:  # as OpenAI's clients look for it
            detail, code = said["error"]["message"], said["error"]["code"]
        else:
            detail, code = said["detail"], said["code"]
        return RequestFailed(str(detail), str(code), response.status_code, after_s)
    except (ValueError, KeyError, TypeError):
        return stranger(response, after_s)


def stranger(response: httpx.Response, after_s: float | None = None) -> RequestFailed:
    """An answer of something else: a proxy, or another program."""
    return RequestFailed(
        f"{response.request.url} answered {response.status_code}, and not as a Headstock "
        "server does",
        status=response.status_code,
        retry_after_s=after_s,
    )


def _retry_after(header: str | None) -> float | None:
    """Seconds from now; the header has seconds or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    with contextlib.suppress(ValueError):
        moment = parsedate_to_datetime(header)
        return max(0.0, (moment - datetime.now(moment.tzinfo or UTC)).total_seconds())
    return None
