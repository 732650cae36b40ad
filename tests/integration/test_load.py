"""The load generator against a server whose delays are known."""

import asyncio
import contextlib
import itertools
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.job import Job, Outcome, Stream, Target, run

TARGETS = (Target("a", "x", "key-a"), Target("b", "x", "key-b"))
TEXTS = ("one", "two", "three")
Answer = Callable[[bytes], Awaitable[bytes]]


def response(status: int, headers: str = "", body: bytes = b"{}") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[int]:
    handlers: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while sent := await answer(await _request(reader)):
                writer.write(sent[:7])  # in two parts: an answer may come in pieces
                await writer.drain()
                writer.write(sent[7:])
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await asyncio.gather(*(task for task in handlers if task))


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r")[0])
    return head + await reader.readexactly(length)


async def outcome_of(answer: Answer, stream: Stream, seconds: float = 0.6) -> Outcome:
    async with server(answer) as port:
        job = Job("127.0.0.1", port, [stream], seconds, warmup_s=0.1)
        (outcome,) = await asyncio.to_thread(run, job)
    return outcome


@pytest.mark.parametrize("rate", [None, 50.0])
async def test_a_known_delay_is_what_is_measured(rate: float | None) -> None:
    async def answer(_: bytes) -> bytes:
        await asyncio.sleep(0.03)
        return response(200)

    outcome = await outcome_of(answer, Stream(TARGETS, TEXTS, rows=2, rate=rate, clients=4))
    assert 29 < outcome.percentile_ms(50) < 45
    assert set(outcome.statuses) == {"200"}
    requests = (rate or 4 / 0.03) * 0.6
    assert requests / 2 < outcome.statuses["200"] < requests * 1.6
    assert outcome.rows == pytest.approx(2 * outcome.statuses["200"], rel=0.3)
    assert outcome.failed == 0


async def test_rows_on_their_way_at_the_end_count_in_part() -> None:
    """Two clients, an answer every 0.25 s to both at once: 8 requests of 32 a second."""

    async def answer(_: bytes) -> bytes:
        await asyncio.sleep(0.25)
        return response(200)

    outcome = await outcome_of(answer, Stream(TARGETS, TEXTS, rows=32, clients=2))
    assert outcome.rows_per_s == pytest.approx(8 * 32, rel=0.1)


async def test_a_stall_is_charged_to_all_who_would_have_come() -> None:
    """One stall of 0.3 s in 0.6: in an open loop half of the requests meet it."""
    first = float("nan")

    async def answer(_: bytes) -> bytes:
        nonlocal first
        now = time.perf_counter()
        first = now if math.isnan(first) else first
        if 0.2 < now - first < 0.5:
            time.sleep(0.5 - (now - first))  # noqa: ASYNC251  # nobody at all is answered
        return response(200)

    outcome = await outcome_of(answer, Stream(TARGETS, TEXTS, rate=200.0))
    slow = sum(latency > 30 for latency in outcome.latencies_ms)
    assert slow > 0.25 * len(outcome.latencies_ms)
    assert outcome.percentile_ms(99) > 200


async def test_requests_that_wait_for_a_connection_are_not_forgotten() -> None:
    async def answer(_: bytes) -> bytes:
        await asyncio.sleep(0.2)
        return response(200)

    outcome = await outcome_of(answer, Stream(TARGETS, TEXTS, rate=400.0))
    assert outcome.statuses["200"] > 150
    assert outcome.failed == 0
    assert 195 < outcome.percentile_ms(50) < 320


async def test_refusals_are_counted_with_their_retry_after() -> None:
    turns = itertools.count()

    async def answer(_: bytes) -> bytes:
        turn = next(turns)
        await asyncio.sleep(0.001)
        headers = "Retry-After: 1\r\n" if turn % 2 else ""
        return response(429, headers) if turn % 4 else response(200)

    outcome = await outcome_of(answer, Stream(TARGETS, TEXTS, clients=2))
    assert outcome.refused == outcome.statuses["429"]
    assert outcome.refused_with_retry_after == pytest.approx(outcome.refused * 2 / 3, abs=3)
    assert outcome.rows == pytest.approx(outcome.statuses["200"], abs=3)
    assert len(outcome.latencies_ms) == outcome.statuses["200"]


async def test_targets_are_asked_by_their_weights_with_their_keys() -> None:
    asked: list[bytes] = []

    async def answer(request: bytes) -> bytes:
        asked.append(request)
        return response(200)

    stream = Stream(TARGETS, TEXTS, rows=2, weights=(9, 1), headers={"X-Request-Timeout": "5"})
    await outcome_of(answer, stream, seconds=0.2)
    first = [request for request in asked if b"/v1/tenants/a/adapters/x/predict" in request]
    assert 0.8 < len(first) / len(asked) < 0.97
    assert all(b"Bearer key-a\r\n" in request for request in first)
    assert all(b"X-Request-Timeout: 5\r\n" in request for request in asked)
    inputs = [json.loads(request.split(b"\r\n\r\n")[1])["inputs"] for request in asked[:3]]
    assert inputs == [["one", "two"], ["three", "one"], ["two", "three"]]


async def test_a_connection_that_the_server_ends_is_replaced() -> None:
    turn = 0

    async def answer(_: bytes) -> bytes:
        nonlocal turn
        turn += 1
        if turn == 20:
            return b""
        return response(200)

    outcome = await outcome_of(answer, Stream(TARGETS, TEXTS, clients=1), seconds=0.3)
    assert outcome.statuses["200"] > 30
