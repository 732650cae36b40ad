"""Requests end where RFC 9112 says, in however many segments they come."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.http.framing import find_fault, without_upgrade
from service.http.protocol import MOST_PIPELINED, BoundedHttp
from tests.odd_requests import BODY, LENGTH, ODD_REQUESTS, SMUGGLED, OddRequest, head

STEP = 5  # between the places where a request is cut in two


@dataclass
class Seen:
    """What an app was asked, and the statuses that went over the wire."""

    requests: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        headers = dict(reversed(scope["headers"]))
        own_id = headers.get(b"x-request-id", b"").decode("latin-1")
        self.requests.append((scope["method"], scope["path"], own_id, body))
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
        )
        await send({"type": "http.response.body", "body": b""})


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closed:
            self.written += data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def serve(segments: Sequence[bytes], rounds: int = 12) -> Seen:
    """One connection; between segments the app has as many rounds of the loop as it needs."""
    seen, wire = Seen(), Wire()
    config = uvicorn.Config(
        seen.app,
        interface="asgi3",
        http=BoundedHttp,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    config.load()
    protocol = BoundedHttp(config, ServerState(), {})
    protocol.connection_made(wire)
    for segment in segments:
        if wire.is_closed:
            break
        protocol.data_received(segment)
        for _ in range(rounds):
            await asyncio.sleep(0)
    for _ in range(12):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    for _ in range(4):
        await asyncio.sleep(0)
    seen.statuses = [int(each) for each in re.findall(rb"HTTP/1\.1 (\d{3})", wire.written)]
    seen.statuses = [each for each in seen.statuses if each != 100]
    return seen


def segmentations(content: bytes) -> list[list[bytes]]:
    cuts = range(1, min(len(content), 600), STEP)
    halves = [[content[:cut], content[cut:]] for cut in cuts]
    pieces = [content[start : start + 1] for start in range(min(len(content), 600))]
    return [[content], *halves, [*pieces, content[600:]] if len(content) > 600 else pieces]


@pytest.mark.parametrize("odd", ODD_REQUESTS, ids=str)
async def test_no_request_has_two_answers_and_no_body_is_a_request(odd: OddRequest) -> None:
    whole = await serve([odd.content])
    for segments in segmentations(odd.content):
        # With no rounds between them, the app sees nothing before all segments are there.
        for rounds in (0, 6):
            seen = await serve(segments, rounds)
            assert len(seen.statuses) <= odd.answers, (segments, seen)
            for method, path, own_id, body in seen.requests:
                assert SMUGGLED not in (own_id, path.rpartition("/")[2]), (segments, seen)
                assert body in (b"", BODY), (method, segments)
            if set(whole.statuses) == {200}:  # else a fault may come before or after an answer
                assert (seen.requests, seen.statuses) == (whole.requests, whole.statuses), segments


@pytest.mark.parametrize("frame", ["Content-Length: %d\r\n", "Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("method", [b"POST", b"GET", b"PUT"])
async def test_a_wish_for_another_protocol_changes_no_answer(method: bytes, frame: str) -> None:
    line = (frame % len(BODY) if "%" in frame else frame).encode()
    body = BODY if "%" in frame else b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    wish = (
        b"Connection: keep-alive, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    )
    plain = await serve([head(line, method=method) + body])
    upgrade = await serve([head(wish, line, method=method) + body])
    assert plain.requests
    assert upgrade == plain


async def test_of_very_many_requests_at_once_few_wait_and_all_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = 0
    begin = BoundedHttp.on_response_complete

    def count(self: BoundedHttp) -> None:
        nonlocal most
        most = max(most, len(self.pipeline))
        begin(self)

    monkeypatch.setattr(BoundedHttp, "on_response_complete", count)
    request = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
    for first in (b"", head(LENGTH) + BODY):
        n_requests = 3000
        seen = await serve([first + request * n_requests], rounds=20 * n_requests)
        assert seen.statuses == [200] * (n_requests + bool(first))
        # A piece's worth beyond those that may wait: they are counted between pieces.
        assert most <= MOST_PIPELINED + 16 * 1024 // len(request)


async def test_what_waits_unread_has_a_bound() -> None:
    request = b"GET /never HTTP/1.1\r\nHost:\r\n\r\n"
    seen = await serve([request * 9000] * 6, rounds=0)
    assert len(seen.statuses) < 9000  # cut off, and not kept


async def test_a_refusal_waits_for_the_answers_before_it() -> None:
    seen = await serve([head(LENGTH) + BODY + b"\x00"])
    assert seen.statuses == [200, 400]


async def test_a_request_that_was_answered_is_not_refused_too() -> None:
    first = head(b"Transfer-Encoding: chunked\r\n", method=b"POST")
    seen = await serve([first + b"0\r\n\r\n", b"\x00garbage"])
    assert seen.statuses == [200, 400]  # the garbage is another request


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([(b"host", b"a")], None),
        ([(b"host", b"a"), (b"transfer-encoding", b"chunked")], None),
        ([(b"host", b"a"), (b"transfer-encoding", b"gzip, chunked")], 501),
        (
            [(b"host", b"a"), (b"transfer-encoding", b"gzip"), (b"transfer-encoding", b"chunked")],
            501,
        ),
        ([(b"host", b"a"), (b"content-length", b"0" * 4301)], 400),
        ([(b"host", b"a"), (b"host", b"a")], 400),
        ([], 400),
    ],
)
def test_faults_of_heads(lines: list[tuple[bytes, bytes]], status: int | None) -> None:
    assert find_fault("1.1", b"POST", lines) == status


def test_faults_of_versions_and_methods() -> None:
    assert find_fault("0.9", b"GET", []) == 400
    assert find_fault("2.0", b"GET", [(b"host", b"a")]) == 505
    assert find_fault("1.0", b"GET", []) is None
    assert find_fault("1.0", b"POST", [(b"transfer-encoding", b"chunked")]) == 400
    assert find_fault("1.1", b"CONNECT", [(b"host", b"a")]) == 501


def test_a_head_without_its_upgrade_is_otherwise_the_same() -> None:
    headers = [
        (b"host", b"a"),
        (b"connection", b"Upgrade, close"),
        (b"upgrade", b"x"),
        (b"b", b"c"),
    ]
    assert without_upgrade(b"PUT", b"/a?b", "1.1", headers) == (
        b"PUT /a?b HTTP/1.1\r\nhost: a\r\nconnection: close\r\nb: c\r\n\r\n"
    )
