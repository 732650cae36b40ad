"""Connections that are slow, long-winded or too many are closed; others are served meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.http import protocol
from service.http.connections import HttpConnections
from service.http.protocol import MOST_HEAD_BYTES, MOST_HEADERS, BoundedHttp

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GOOD = b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 30_000_000


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads all of a request; a large answer at /large."""
    if scope["type"] == "lifespan":
        return
    while scope["path"] != "/refuse" and (await receive()).get("more_body"):
        pass
    body = bytes(LARGE) if scope["path"] == "/large" else b"ok"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    monkeypatch.setattr(protocol, "REST_S", 0.3)
    monkeypatch.setattr(protocol, "UNREAD_S", 0.3)
    monkeypatch.setattr(protocol, "_PROBE_HEAD_S", 0.3)
    monkeypatch.setattr(BoundedHttp, "held", HttpConnections(8))
    monkeypatch.setattr(BoundedHttp, "probes", HttpConnections(4))


OPENED: list[asyncio.StreamWriter] = []


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(answer, http=BoundedHttp, ws="none", log_config=None, access_log=False)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedHttp(config, state, {}), "127.0.0.1", 0)
    found: int = server.sockets[0].getsockname()[1]
    yield found
    for writer in OPENED:
        writer.transport.abort()
    OPENED.clear()
    server.close()
    for connection in list(state.connections):
        connection.transport.abort()
    await asyncio.sleep(0.01)  # what was aborted is closed in the loop's next rounds


async def connect(port: int) -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    OPENED.append(writer)
    return reader, writer


async def status(reader: asyncio.StreamReader) -> bytes:
    """The status of the answer that comes; nothing where there is none."""
    line = await asyncio.wait_for(reader.readline(), 5)
    return line.split()[1] if line else b""


async def is_served(port: int) -> bool:
    reader, writer = await connect(port)
    writer.write(GOOD)
    found = await status(reader)
    writer.close()
    return found == b"200"


async def test_a_head_that_does_not_come_is_given_up(port: int) -> None:
    reader, writer = await connect(port)
    assert await asyncio.wait_for(reader.read(), 5) == b""  # nothing was begun: nothing is said
    writer.close()


async def test_a_head_that_comes_a_byte_at_a_time_is_given_up(port: int) -> None:
    slow = [await connect(port) for _ in range(4)]
    started = asyncio.get_running_loop().time()
    answers = [asyncio.create_task(status(reader)) for reader, _ in slow]
    for byte in GOOD:
        for _, writer in slow:
            if not writer.is_closing():
                writer.write(bytes([byte]))
        assert await is_served(port)
        await asyncio.sleep(0.05)
        if all(each.done() for each in answers):
            break
    assert [await each for each in answers] == [b"408"] * 4
    assert asyncio.get_running_loop().time() - started < 2
    for _, writer in slow:
        writer.close()


async def test_the_next_head_of_a_connection_has_its_time_too(port: int) -> None:
    reader, writer = await connect(port)
    for _ in range(3):
        writer.write(GOOD)
        assert await status(reader) == b"200"
        while (await reader.readline()).strip():
            pass
        assert await reader.readexactly(2) == b"ok"
        await asyncio.sleep(0.15)  # idle between requests is another matter
    writer.write(GOOD[:10])
    assert await status(reader) == b"408"
    writer.close()


async def test_a_body_may_take_longer_than_a_head(port: int) -> None:
    """How long is the app's to say."""
    reader, writer = await connect(port)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
    await asyncio.sleep(0.6)
    writer.write(b"b")
    assert await status(reader) == b"200"
    writer.close()


async def test_the_rest_of_a_body_that_was_refused_is_not_waited_for(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\na")
    assert await status(reader) == b"200"

    async def trickle() -> None:
        while not writer.is_closing():
            writer.write(b"a")
            await asyncio.sleep(0.05)

    going_on = asyncio.create_task(trickle())
    await asyncio.wait_for(reader.read(), 5)
    going_on.cancel()


async def test_a_body_that_comes_after_all_leaves_the_connection_open(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na")
    assert await status(reader) == b"200"
    writer.write(b"bcd")
    await asyncio.sleep(0.1)
    writer.write(GOOD)
    assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"HTTP/1.1 200 OK"), 5)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"X: y\r\n" * (MOST_HEADERS - 1), b"200"),
        (b"X: y\r\n" * MOST_HEADERS, b"431"),
        (b"X: " + b"y" * (MOST_HEAD_BYTES - 100) + b"\r\n", b"200"),
        (b"X: " + b"y" * MOST_HEAD_BYTES + b"\r\n", b"431"),
        (b"X: y\r\n" * 100_000, b"431"),
    ],
)
async def test_a_head_has_bounds(port: int, head: bytes, expected: bytes) -> None:
    reader, writer = await connect(port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n")
    assert await status(reader) == expected
    writer.close()
    assert await is_served(port)


@pytest.mark.parametrize(
    "first",
    [GOOD, b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"],
    ids=["empty line", "late body"],
)
async def test_bytes_that_begin_no_request_do_not_hold_a_connection(
    port: int, first: bytes
) -> None:
    reader, writer = await connect(port)
    writer.write(first)
    assert await status(reader) == b"200"
    writer.write(b"\r\n" if first is GOOD else b"abcd")
    await asyncio.wait_for(reader.read(), 5)  # which ends with the connection


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET /",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
    ],
    ids=["value", "name", "path", "trailer", "extension"],
)
async def test_what_does_not_end_is_cut_off(port: int, begin: bytes) -> None:
    _, writer = await connect(port)
    writer.write(begin)
    sent = 0
    while not writer.transport.is_closing() and sent < 50 * MOST_HEAD_BYTES:
        writer.write(b"y" * 16_384)
        sent += 16_384
        await asyncio.sleep(0.001)
    assert sent < 10 * MOST_HEAD_BYTES
    assert await is_served(port)


async def test_a_long_body_in_small_pieces_is_none_of_a_head(port: int) -> None:
    reader, writer = await connect(port)
    size = 20 * MOST_HEAD_BYTES
    writer.write(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
    for _ in range(size // 4096):
        writer.write(b"a" * 4096)
        await writer.drain()
    assert await status(reader) == b"200"


async def test_a_path_has_the_bounds_of_a_head(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(b"GET /" + b"a" * MOST_HEAD_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await status(reader) == b"431"
    writer.close()


async def test_the_oldest_idle_connection_makes_room(port: int) -> None:
    held = [await connect(port) for _ in range(8)]
    assert await is_served(port)
    (oldest, _), *others = held
    assert await asyncio.wait_for(oldest.read(), 1) == b""
    for reader, writer in others:
        writer.write(GOOD)
        assert await status(reader) == b"200"


async def test_connections_with_requests_under_way_have_a_bound_and_come_free(port: int) -> None:
    held = [await connect(port) for _ in range(8)]
    for _, each in held:
        each.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    await asyncio.sleep(0.05)
    reader, writer = await connect(port)
    writer.write(GOOD)
    assert b"503" in (line := await reader.readline()), line
    assert b"retry-after" in await reader.read()
    writer.close()
    held.pop()[1].close()
    await asyncio.sleep(0.05)
    assert await is_served(port)
    for _, each in held:
        each.close()


@pytest.fixture
async def full(port: int) -> None:
    """Let all connections have a request under way."""
    for _ in range(8):
        _, writer = await connect(port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    await asyncio.sleep(0.05)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("path", [b"/livez", b"/readyz", b"/v2/health/ready"])
async def test_a_full_server_answers_health_checks(port: int, method: bytes, path: bytes) -> None:
    for _ in range(40):
        reader, writer = await connect(port)
        writer.write(b"%b %b HTTP/1.1\r\nHost: a\r\n\r\n" % (method, path))
        content = await asyncio.wait_for(reader.read(), 5)  # to its end: the server closes
        assert content.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in content
        writer.close()


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/tenants HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        b"GET /livez/../v1/tenants HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /livez?x HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_the_room_for_health_checks_is_for_nothing_else(port: int, head: bytes) -> None:
    reader, writer = await connect(port)
    writer.write(head)
    content = await asyncio.wait_for(reader.read(), 5)
    assert content.startswith(b"HTTP/1.1 503")
    assert content.count(b"HTTP/1.1") == 1
    writer.close()


@pytest.mark.usefixtures("full")
async def test_a_health_check_brings_no_second_request_along(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" + GOOD)
    assert (await asyncio.wait_for(reader.read(), 5)).count(b"HTTP/1.1") == 1
    writer.close()


@pytest.mark.usefixtures("full")
async def test_connections_that_ask_nothing_do_not_keep_health_checks_out(port: int) -> None:
    silent = [await connect(port) for _ in range(100)]
    for _ in range(20):
        reader, writer = await connect(port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await status(reader) == b"200"
    for reader, writer in silent:
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_client_that_does_not_read_is_left(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.sleep(1.0)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(reader.readexactly(LARGE), 5)
    writer.close()


async def test_a_client_that_reads_slowly_but_reads_gets_all(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    count = 0
    while count < LARGE:
        piece = await asyncio.wait_for(reader.read(2**21), 5)
        assert piece
        count += len(piece)
        await asyncio.sleep(0.02)
    writer.close()
