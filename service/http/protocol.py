"""uvicorn's HTTP protocol with bounds on what comes before an app sees it: heads and connections.

uvicorn waits for a head for as long as a client sends a byte now and then, and writes for as long
as one does not read. It takes heads that RFC 9112 has refused (`framing.py`), and httptools skips
the body of a request that asks for another protocol, so that the body would be the next request.
"""

import asyncio
from asyncio import TimerHandle
from typing import ClassVar, Final, NoReturn, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.hosts import Connection, host_of
from service.http.connections import HttpConnections
from service.http.framing import find_fault, without_upgrade
from service.http.scope import is_authenticated

HEAD_S: Final = 8.0  # for a whole head, and for the first byte on a new connection
REST_S: Final = 1.0  # for the rest of a body whose request was answered before its end
UNREAD_S: Final = 10.0  # in which a client reads something of what waits for it
_LEAST_READ: Final = 64 * 2**10  # in these seconds
MOST_HEADERS: Final = 100
MOST_PIPELINED: Final = (
    16  # requests behind the one under way; what comes after them is kept as bytes
)
# Parsed before a look at how many requests they were; more of a body, which others may follow.
_PIECE_BYTES: Final = 4 * 2**10
_BODY_PIECE_BYTES: Final = 16 * 2**10
_MOST_WAITING_BYTES: Final = 2**20  # unparsed: several reads of the system's
MOST_HEAD_BYTES: Final = 32 * 2**10
PROBES: Final = frozenset(
    {b"/livez", b"/readyz", b"/healthz", b"/v2/health/live", b"/v2/health/ready"}
)
_MOST_PROBES: Final = 16  # connections beyond the limit
_PROBE_HEAD_S: Final = 2.0
_RETRY: Final = b"retry-after: 1\r\n"
_REFUSALS: Final = {
    400: b"400 Bad Request",
    408: b"408 Request Timeout",
    431: b"431 Request Header Fields Too Large",
    501: b"501 Not Implemented",
    503: b"503 Service Unavailable",
    505: b"505 HTTP Version Not Supported",
}


class _Refused(Exception):
    """Ends the parsing of a connection: nothing that follows is looked at."""


class BoundedHttp(HttpToolsProtocol):
    """One connection. `held` are all of them; the server sets it before the first one.

    A few more are let in as `probes`: who watches a server must not take one that is full for one
    that is dead, and only the head tells what is asked.
    """

    held: ClassVar[HttpConnections] = HttpConnections(1024)
    probes: ClassVar[HttpConnections] = HttpConnections(_MOST_PROBES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.parser = httptools.HttpRequestParser(self)  # with none of the leniences of uvicorn's
        self._timer: TimerHandle | None = None
        self._unread: TimerHandle | None = None
        self._in_head = self._in_body = self._is_upgrade = False
        self._refusal: bytes | None = None  # written when all before it is answered
        self._under_way: RequestResponseCycle | None = None  # `cycle` is the newest that was parsed
        self._waiting = b""  # bytes behind as many requests as may wait
        self._head_bytes = self._n_headers = self._untold_bytes = 0
        self._since = self.loop.time()  # of the connection, or of the last answer's end
        self._host = host_of(self.client[0]) if self.client else ""
        self._is_last = False  # what follows the request under way is not read
        self._is_probe = not self.held.add(self, self._host)
        if not self._is_probe or self.probes.add(self, self._host):
            head_s = _PROBE_HEAD_S if self._is_probe else HEAD_S
            self._timer = self.loop.call_later(head_s, self._give_up)
        else:
            self._refuse(503, _RETRY)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        (self.probes if self._is_probe else self.held).remove(self)
        self._stop_timer()
        self._stop_watching()
        self._waiting = b""
        if self._under_way is not None and not self._under_way.response_complete:
            self._under_way.disconnected = True
            self._under_way.message_event.set()
        super().connection_lost(exc)

    def describe(self, key: int) -> Connection:
        """What the connection is to those that need room."""
        cycle = self._under_way
        if cycle is None or cycle.response_complete:
            return Connection(key, self._host, self._since, idle=True)
        has_key = is_authenticated(cycle.scope)
        return Connection(key, self._host, self._since, idle=False, authenticated=has_key)

    def give_way(self) -> None:
        """Close at once, so that others have room."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self._ends():
            return
        self._unset_keepalive_if_required()
        self._parse(self._waiting + data if self._waiting else data)
        if len(self._waiting) > _MOST_WAITING_BYTES:
            self.transport.abort()
        self._time_head()

    def _time_head(self) -> None:
        """Give a head its time from now on, if one is waited for and nothing else is under way.

        A timer is made only for heads that come in pieces: most come in one.
        """
        if self._ends() or self._timer is not None or self.timeout_keep_alive_task is not None:
            return
        # A wait for a next request has just ended, be it for bytes that begin none.
        is_idle = self._under_way is None or self._under_way.response_complete
        if is_idle and not self._in_body:
            self._timer = self.loop.call_later(HEAD_S, self._give_up)

    def _parse(self, data: bytes) -> None:
        """Have the parser read what came; it calls the methods `on_…`.

        No more requests are made of it than may wait: the rest is kept, and read as they are
        answered. The system's buffers fill up meanwhile, and then the client's.
        """
        rest = memoryview(data)
        self._waiting = b""
        try:
            while rest and not self._ends():
                if len(self.pipeline) >= MOST_PIPELINED:
                    self._waiting = bytes(rest)
                    self.flow.pause_reading()
                    return
                rest = self._parse_piece(rest)
        except httptools.HttpParserError:
            self._refuse(400)  # unless the reason was a refusal of ours

    def _parse_piece(self, rest: memoryview) -> memoryview:
        """Have the parser read the beginning of what came; returns what it has not read."""
        piece = rest[: _BODY_PIECE_BYTES if self._in_body else _PIECE_BYTES]
        # A header that does not end is kept by the parser, which tells of it at its end alone.
        self._untold_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as pause:
            self._ignore_upgrade()
            return rest[pause.args[0] :]
        if self._untold_bytes > MOST_HEAD_BYTES:
            self._refuse(431)
        return rest[len(piece) :]

    def _ignore_upgrade(self) -> None:
        """Read the head again without what it says of another protocol.

        httptools has told of a request with no body, whatever the head says, and knows no way
        back. A fresh parser reads this head, and then the body, as it would have done without.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        head = without_upgrade(method, self.url, version, self.headers)
        self._is_upgrade = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(head)

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._is_last:
            raise _Refused
        super().on_message_begin()
        self._in_head = True
        self._untold_bytes = 0
        self._head_bytes = self._n_headers = 0

    def on_url(self, url: bytes) -> None:
        """A part of the path and query."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer behind a body: those are counted and left alone.

        The app reads headers while a body still comes. One that came late would pass for one that
        a proxy has checked.
        """
        self._n_headers += 1
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is there."""
        self._untold_bytes = 0
        self._stop_timer()
        version = self.parser.get_http_version()
        fault = find_fault(version, self.parser.get_method(), self.headers)
        if fault is not None:
            self._stop(fault)
        self._is_upgrade = self.parser.should_upgrade()
        if version == "1.0":
            self.expect_100_continue = False  # RFC 9110, 10.1.1: it knows no interim answers
        is_check = self.parser.get_method() in (b"GET", b"HEAD") and self.url in PROBES
        if self._is_probe and not is_check:
            self._stop(503, _RETRY)
        if not self._is_upgrade:
            super().on_headers_complete()
            self._in_head, self._in_body = False, True
            if self._is_probe:
                self.cycle.keep_alive = False  # uvicorn says so, and closes after its answer
                self._is_last = True

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._untold_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A body is there, be it empty."""
        if self._is_upgrade:  # the parser believes so; the head is read again
            return
        self._in_body = False
        self._untold_bytes = 0
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request was answered, perhaps before its body was there."""
        self._since = self.loop.time()
        is_last = not self.pipeline
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._refusal is not None:
            if is_last:
                self._unset_keepalive_if_required()
                self._write_refusal()
        elif self._in_body and self.cycle.response_complete:
            self._stop_timer()
            self._timer = self.loop.call_later(REST_S, self.transport.close)
        elif self._waiting:
            self._unset_keepalive_if_required()
            self._parse(self._waiting)
            self._time_head()
        elif self._in_head:
            self._unset_keepalive_if_required()
            self._time_head()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._under_way = cycle
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        """What is written waits for the client to read."""
        super().pause_writing()
        if self._unread is None:
            self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has read nearly all."""
        self._stop_watching()
        super().resume_writing()

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
            self._stop(431)

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

    def _ends(self) -> bool:
        """Whether nothing that comes is looked at any more."""
        return self._refusal is not None or self._is_last or self.transport.is_closing()

    def _stop(self, status: int, headers: bytes = b"") -> NoReturn:
        """Refuse what the parser is at, from within one of its calls."""
        self._refuse(status, headers)
        raise _Refused

    def _refuse(self, status: int, headers: bytes = b"") -> None:
        """Answer in the fewest words and close, once what was asked before is answered.

        A request that has an answer, or a part of one, gets no second one.
        """
        if self._ends():
            return
        self._stop_timer()
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        if self._in_body and cycle is not None:
            if cycle.response_started:
                self.transport.close()
                return
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()  # it waits behind others, and will not be begun
            else:
                cycle = None
        self._refusal = b"HTTP/1.1 %b\r\n%bcontent-length: 0\r\nconnection: close\r\n\r\n" % (
            _REFUSALS[status],
            headers,
        )
        if cycle is None or cycle.response_complete:
            self._write_refusal()

    def _write_refusal(self) -> None:
        assert self._refusal is not None, "there is one to be written"
        self.transport.write(self._refusal)
        self.transport.close()
