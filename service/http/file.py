"""A file as an answer, in pieces: what a client does not read is not all in its buffer."""

from collections.abc import AsyncIterator, Callable

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

_PIECE_BYTES = 256 * 2**10


class FileResponse(StreamingResponse):
    """Sends `content`, and calls `done` when it is sent or nobody takes it any more."""

    def __init__(self, digest: str, content: bytes, done: Callable[[], None]) -> None:
        headers = {"ETag": f'"{digest}"', "Content-Length": str(len(content))}
        super().__init__(_pieces(content), headers=headers, media_type="application/octet-stream")
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._done()


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PIECE_BYTES):
        yield content[start : start + _PIECE_BYTES]
