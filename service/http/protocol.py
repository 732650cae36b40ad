"""uvicorn's HTTP protocol with bounds on what comes before an app sees it: heads and connections.

uvicorn waits for a head for as long as a client sends a byte now and then, and writes for as long
as one does not read.
"""

import asyncio
from asyncio import TimerHandle
from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_S: Final = 8.0  # for a whole head, and for the first byte on a new connection
REST_S: Final = 1.0  # for the rest of a body whose request was answered before its end
UNREAD_S: Final = 10.0  # in which a client reads something of what waits for it
_LEAST_READ: Final = 64 * 2**10  # in these seconds
MOST_HEADERS: Final = 100
MOST_HEAD_BYTES: Final = 32 * 2**10
_REFUSALS: Final = {
    408: b"408 Request Timeout",
    431: b"431 Request Header Fields Too Large",
    503: b"503 Service Unavailable",
}


class BoundedHttp(HttpToolsProtocol):
    """One connection. `most_connections` is set by the server before the first one."""

    most_connections = 1024

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._timer: TimerHandle | None = None
        self._unread: TimerHandle | None = None
        self._in_head = self._in_body = False
        self._head_bytes = self._n_headers = self._untold_bytes = 0
        if len(self.connections) > self.most_connections:
            self._refuse(503, b"retry-after: 1\r\n")
        else:
            self._timer = self.loop.call_later(HEAD_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._stop_timer()
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self.transport.is_closing():
            return
        # A header that does not end is kept by the parser, which tells of it at its end alone.
        self._untold_bytes += len(data)
        super().data_received(data)
        if self._untold_bytes > MOST_HEAD_BYTES:
            self._refuse(431)
        # A timer is made only for heads that come in pieces: most come in one.
        if self.transport.is_closing() or self._timer is not None:
            return
        if self.timeout_keep_alive_task is not None:
            return
        # uvicorn has just ended its wait for a next request, be it for bytes that begin none.
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        is_idle = not self._in_body and (cycle is None or cycle.response_complete)
        if self._in_head or is_idle:
            self._timer = self.loop.call_later(HEAD_S, self._give_up)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = True
        self._untold_bytes = 0
        self._head_bytes = self._n_headers = 0

    def on_url(self, url: bytes) -> None:
        """A part of the path and query."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._n_headers += 1
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is there."""
        self._in_head, self._in_body = False, True
        self._untold_bytes = 0
        self._stop_timer()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._untold_bytes = 0
        if not self.transport.is_closing():  # else there may be no request that it belongs to
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A body is there, be it empty."""
        self._in_body = False
        self._untold_bytes = 0
        if not self.transport.is_closing():
            self._stop_timer()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request was answered, perhaps before its body was there."""
        super().on_response_complete()
        if self._in_body and self.cycle.response_complete and not self.transport.is_closing():
            self._stop_timer()
            self._timer = self.loop.call_later(REST_S, self.transport.close)

    def pause_writing(self) -> None:
        """What is written waits for the client to read."""
        super().pause_writing()
        if self._unread is None:
            self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has read nearly all."""
        self._stop_watching()
        super().resume_writing()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: a client that asks for another protocol is answered in this one."""

    def _watch(self, waiting: int) -> None:
        """See to it that something of what waits is read."""
        self._unread = self.loop.call_later(UNREAD_S, self._look, waiting)

    def _look(self, waiting: int) -> None:
        now = self.transport.get_write_buffer_size()
        if now <= waiting - _LEAST_READ:
            self._watch(now)
        else:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _count(self, size: int) -> None:
        self._untold_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MOST_HEAD_BYTES or self._n_headers > MOST_HEADERS:
            self._refuse(431)

    def _give_up(self) -> None:
        self._timer = None
        if self._in_head:
            self._refuse(408)
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, headers: bytes = b"") -> None:
        """Answer in the fewest words, which belong to no request, and close."""
        if self.transport.is_closing():
            return
        self._stop_timer()
        self.transport.write(
            b"HTTP/1.1 "
            + _REFUSALS[status]
            + b"\r\n"
            + headers
            + b"content-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()
