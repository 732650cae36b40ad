"""HTTP and gRPC beside each other: single texts, and what a request costs the server's CPU.

Both are asked by clients in Python that prepare requests beforehand and read no answer, from this
machine's cores. A client of gRPC costs several times as much as one of HTTP here, so the server's
CPU is what tells the protocols apart; it is read from the operating system.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import grpc
import psutil

from backbone import load_backbone
from benchmarks.adapters import write_adapter
from benchmarks.common import INT8, Bench, Figure, bench, folder_of, table
from benchmarks.empty import NAME as EMPTY
from benchmarks.empty import empty_backbone
from service.protos import inference_pb2 as pb

_CLIENTS = 16
_SECONDS = 6.0
_WARMUP_S = 1.0
_ROUNDS = 3
_TENANT, _ADAPTER = "bench", "test"
_MODEL = f"{_TENANT}.{_ADAPTER}"
_TEXT = "w17 w23 w5 w420 w7 w99 w256 w3"

# What is asked: whether the server lives (no key), whether the model is ready, what a text is.
Step = Literal["live", "ready", "infer"]
# Asks once and waits for the answer; made for each client, and ended by the stack.
Ask = Callable[[], Awaitable[None]]
Connect = Callable[[AsyncExitStack], Awaitable[Ask]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests a second, and the server's CPU a request in microseconds."""

    rate: float
    cpu_us: float


def measure(_: Path | None, quick: bool) -> str:
    """All of it as a table."""
    seconds, rounds = (1.0, 1) if quick else (_SECONDS, _ROUNDS)
    with empty_backbone():
        figures = list(_on_empty(seconds, rounds))
    return table([*figures, *_on_minilm(seconds, rounds)])


def _on_empty(seconds: float, rounds: int) -> Iterator[Figure]:
    steps: tuple[Step, ...] = ("live", "ready", "infer")
    with serving(EMPTY) as running:
        plain = {step: _in_turn(running, step, seconds, rounds) for step in steps}
    for protocol in ("HTTP", "gRPC"):
        live, ready, infer = (plain[step][protocol] for step in steps)
        yield Figure(
            f"{protocol}, one text on an empty backbone from {_CLIENTS} clients",
            f"{infer.rate:,.0f} requests/s, {infer.cpu_us:.0f} µs of the server's CPU each",
        )
        yield Figure(
            f"{protocol}: of these the protocol and what is around every call; the key and the "
            "route; the text, its turn and its answer",
            f"{live.cpu_us:.0f} µs; {ready.cpu_us - live.cpu_us:.0f} µs; "
            f"{infer.cpu_us - ready.cpu_us:.0f} µs",
        )


def _on_minilm(seconds: float, rounds: int) -> Iterator[Figure]:
    with serving(INT8) as running:
        found = _in_turn(running, "infer", seconds, rounds)
    http, rpc = found["HTTP"], found["gRPC"]
    yield Figure(
        f"gRPC ÷ HTTP, one text on MiniLM in int8 from {_CLIENTS} clients",
        f"{rpc.rate / http.rate:.2f} ({rpc.rate:,.0f} to {http.rate:,.0f} requests/s)",
    )


@contextmanager
def serving(backbone: str, log_level: str = "warning", tree: Path | None = None) -> Iterator[Bench]:
    """A server with one adapter of two labels; no line in its log for each request by default."""
    opened = load_backbone(folder_of(backbone))
    width = opened.manifest.width("pooled")
    with (
        # One thread a run: with next to nothing to compute, chance would choose their number.
        bench(
            backbone, None, tree, HEADSTOCK_LOG_LEVEL=log_level, HEADSTOCK_THREADS="1"
        ) as running,
        tempfile.TemporaryDirectory() as folder,
    ):
        file = write_adapter(Path(folder), _ADAPTER, opened.digest, 0, 2, width)
        running.client.create_tenant(_TENANT)
        running.client.push(file, _TENANT, _ADAPTER, activate=True)
        yield running


def _in_turn(running: Bench, step: Step, seconds: float, rounds: int) -> Mapping[str, Measured]:
    """Both protocols, taking turns; the medians of all rounds."""
    connects = {"HTTP": http(running, step), "gRPC": _grpc(running, step)}
    found: dict[str, list[Measured]] = {name: [] for name in connects}
    for _ in range(rounds):
        for name, connect in connects.items():
            found[name].append(asyncio.run(ask_all(running, connect, seconds)))
    return {
        name: Measured(median(each.rate for each in all_), median(each.cpu_us for each in all_))
        for name, all_ in found.items()
    }


async def ask_all(running: Bench, connect: Connect, seconds: float) -> Measured:
    """Have clients ask again when they have their answer."""
    process, count = psutil.Process(running.server.process.pid), 0

    async def go_on(ask: Ask, end: float) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await ask()
            count += 1

    async with AsyncExitStack() as stack:
        asks = [await connect(stack) for _ in range(_CLIENTS)]
        warm = time.perf_counter() + min(_WARMUP_S, seconds)
        await asyncio.gather(*(go_on(ask, warm) for ask in asks))
        count, started, before = 0, time.perf_counter(), process.cpu_times()
        await asyncio.gather(*(go_on(ask, started + seconds) for ask in asks))
        after, passed = process.cpu_times(), time.perf_counter() - started
    cpu_s = after.user + after.system - before.user - before.system
    return Measured(count / passed, 1e6 * cpu_s / count)


def http(running: Bench, step: Step) -> Connect:
    """A client of HTTP that takes one of the steps."""
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [_TEXT]}
    body = json.dumps({"inputs": [tensor]}).encode() if step == "infer" else b""
    path = {"live": "health/live", "ready": f"models/{_MODEL}/ready"}.get(
        step, f"models/{_MODEL}/infer"
    )
    key = "" if step == "live" else f"Authorization: Bearer {running.client.key}\r\n"
    head = (
        f"{'POST' if body else 'GET'} /v2/{path} HTTP/1.1\r\nHost: benchmark\r\n{key}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request, port = head.encode() + body, int(running.server.url.rpartition(":")[2])

    async def connect(stack: AsyncExitStack) -> Ask:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stack.callback(writer.close)

        async def ask() -> None:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))

        return ask

    return connect


def _grpc(running: Bench, step: Step) -> Connect:
    given = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    given.contents.bytes_contents.append(_TEXT.encode())
    name, request = {
        "live": ("ServerLive", pb.ServerLiveRequest()),
        "ready": ("ModelReady", pb.ModelReadyRequest(name=_MODEL)),
        "infer": ("ModelInfer", pb.ModelInferRequest(model_name=_MODEL, inputs=[given])),
    }[step]
    content = request.SerializeToString()
    metadata = () if step == "live" else (("authorization", f"Bearer {running.client.key}"),)

    async def connect(stack: AsyncExitStack) -> Ask:
        # A connection a client, as over HTTP.
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{running.server.grpc_port}", options)
        await stack.enter_async_context(channel)
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{name}", bytes, bytes)

        async def ask() -> None:
            await call(content, metadata=metadata)

        return ask

    return connect
