"""Connections over gRPC end, whatever a client does with them; others are served meanwhile."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.grpc import server as module
from tests.contract.grpc_support import BY_NAME, Rpc, serving_grpc
from tests.contract.support import Server, Template, serving
from tests.contract.test_grpc_oip import infer

PATIENCE_S = 20
AGE = {"grpc.max_connection_age_ms": 2000, "grpc.max_connection_age_grace_ms": 1000}
# Of HTTP/2, RFC 9113: what a client begins with, and kinds of frames.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4


@pytest.fixture
async def short_lived(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rpc]:
    """A server whose connections live for two seconds, and have one more to end."""
    options = [(name, AGE.get(name, value)) for name, value in module._OPTIONS]
    assert len(set(options) - set(module._OPTIONS)) == len(AGE)
    monkeypatch.setattr(module, "_OPTIONS", options)
    async with serving_grpc(server) as rpc:
        yield rpc


async def test_a_stream_without_end_ends_with_its_connection(short_lived: Rpc) -> None:
    health: Any = health_pb2_grpc.HealthStub(short_lived.channel)
    watching = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError):
        await asyncio.wait_for(watching.read(), PATIENCE_S)
    # A client connects again by itself.
    assert (await short_lived.call("ModelInfer", infer("a"))).model_version == "1"


async def test_a_client_that_takes_no_answer_loses_its_connection(short_lived: Rpc) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", short_lived.served.port)
    # A window of nothing: the answer may not be sent.
    settings = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))
    writer.write(PREFACE + settings + call(BY_NAME["ServerLive"].path))
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()  # to its end, which the server makes
    assert DATA not in kinds(answer)
    writer.close()
    await short_lived.call("ServerLive", BY_NAME["ServerLive"].request(), key=None)


async def test_an_answer_that_is_not_taken_yet_is_kept_when_the_server_stops(rpc: Rpc) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rpc.served.port)
    settings = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))
    path = BY_NAME["ServerLive"].path
    writer.write(PREFACE + settings + call(path))
    async with asyncio.timeout(PATIENCE_S):
        while not rpc.server.metric("grpc_requests_total", method=path, code="OK"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        rpc.served.leave()
        await asyncio.sleep(3)
        writer.write(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 65_535)))
        assert DATA in kinds(await reader.read())
    writer.close()


async def test_the_same_client_is_answered_when_it_takes_the_answer(short_lived: Rpc) -> None:
    """So that the test above says something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", short_lived.served.port)
    writer.write(PREFACE + frame(SETTINGS, 0, 0, b"") + call(BY_NAME["ServerLive"].path))
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    assert DATA in kinds(answer)
    writer.close()


async def test_a_host_has_its_share_of_connections(tmp_path: Path, template: Template) -> None:
    limits = {"max_grpc_connections": 10, "max_connections_per_host": 3}
    async with serving(tmp_path, template, **limits) as server, serving_grpc(server) as rpc:
        held = [
            await asyncio.open_connection("127.0.0.1", rpc.served.port, local_addr=(host, 0))
            for host in ["127.0.0.2"] * 6 + ["127.0.0.3"] * 3
        ]
        async with asyncio.timeout(PATIENCE_S):
            for reader, _ in held[:3]:
                await reader.read()  # to its end: the oldest are closed
        await rpc.call("ServerLive", BY_NAME["ServerLive"].request(), key=None)
        assert [reader.at_eof() for reader, _ in held] == [True] * 3 + [False] * 6
        assert server.metric("closed_connections_total", protocol="grpc") == 3
        for _, writer in held:
            writer.close()


def call(path: str) -> bytes:
    """One whole call of a method with an empty message, on the first stream."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "test",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    # HPACK, RFC 7541: literals that nobody keeps, without Huffman's code.
    block = b"".join(b"\0" + literal(name) + literal(value) for name, value in fields.items())
    message = b"\0" + struct.pack(">I", 0)
    return frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, message)


def literal(text: str) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def kinds(content: bytes) -> set[int]:
    """The kinds of all frames."""
    found = set()
    while content:
        length = int.from_bytes(content[:3], "big")
        found.add(content[3])
        content = content[9 + length :]
    return found
