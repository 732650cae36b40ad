"""From calls to HTTP and back: what both clients share."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx

from headstock.client.calls import Call
from headstock.client.errors import RequestFailed, refusal, stranger, unanswered
from headstock.client.retry import Fate

Answer = TypeVar("Answer")
# Called with the bytes that were sent and with all that there are; from the start again where a
# request is sent again.
Progress = Callable[[int, int], None]

CONNECT_S = 5.0
ANSWER_S = 60.0
_PIECE_BYTES = 256 * 2**10


def settings(server: str, key: str) -> dict[str, Any]:
    """What a client of httpx is made with. Raises ValueError for a key that no header can carry."""
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the key has characters that no key has; copy it once more")
    return {
        "base_url": server,
        "headers": {"Authorization": f"Bearer {key}"},
        "timeout": httpx.Timeout(ANSWER_S, connect=CONNECT_S),
    }


def options(call: Call[Any]) -> dict[str, Any]:
    """What a request of httpx is made with, a file's content aside."""
    given: dict[str, Any] = {"params": call.params} if call.params else {}
    if call.json is not None:
        given["json"] = call.json
    if call.content is not None:
        # With its length: a server can then refuse what is too long before it comes.
        length = {"Content-Length": str(len(call.content))}
        given["headers"] = {"Content-Type": "application/octet-stream", **length}
    return given


def pieces(content: bytes, progress: Progress | None) -> Iterator[bytes]:
    """A file in pieces; each is told of when it was taken."""
    for start in range(0, len(content), _PIECE_BYTES):
        yield content[start : start + _PIECE_BYTES]
        if progress is not None:
            progress(min(start + _PIECE_BYTES, len(content)), len(content))


def failure(server: str, error: httpx.HTTPError) -> tuple[RequestFailed, Fate]:
    """Why there is no answer, and whether the request may have been taken."""
    unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return unanswered(server, error), "unsent" if unsent else "lost"


def read(call: Call[Answer], response: httpx.Response) -> Answer:
    """The answer. Raises RequestFailed for a refusal, and for what no Headstock server says."""
    if not response.is_success:
        raise refusal(response)
    content: Any = None
    if call.path == "/metrics":
        content = response.text
    elif response.content:
        try:
            content = response.json()
        except ValueError:
            raise stranger(response) from None
        if not isinstance(content, dict):
            raise stranger(response)
    return content  # type: ignore[no-any-return]  # typed by the call
