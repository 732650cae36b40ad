"""How calls over gRPC end: by deadline, by their client, by the server's stop; who is told."""

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from numpy.typing import NDArray

from adapters.errors import InvalidInput
from backbone import PlacedLora, TextRow
from service.grpc import GrpcServer
from service.grpc.methods import INFERENCE, METHODS, REGISTRY
from service.protos import registry_pb2
from tests.contract.grpc_support import BY_NAME, Rpc, check_refusal
from tests.contract.test_grpc_oip import infer

HEALTH = health_pb2.HealthCheckResponse
PATIENCE_S = 20


class Gate(threading.Event):
    """Runs of the backbone wait for it; `began` is released by each."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Semaphore(0)


@pytest.fixture
def gate(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate, run = Gate(), rpc.server.backbone.run

    def held_run(
        rows: Sequence[TextRow], features: Collection[str], loras: Sequence[PlacedLora | None] = ()
    ) -> Mapping[str, NDArray[np.float32]]:
        gate.began.release()
        assert gate.wait(PATIENCE_S)
        return run(rows, features, loras)

    monkeypatch.setattr(rpc.server.backbone, "run", held_run)
    yield gate
    gate.set()


async def test_a_deadline_ends_a_call(rpc: Rpc, gate: Gate) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc.call("ModelInfer", infer("a"), timeout_s=0.2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await rpc.call("ServerLive", BY_NAME["ServerLive"].request())
    gate.set()
    await rpc.call("ModelInfer", infer("a"), timeout_s=PATIENCE_S)


@pytest.mark.settings(request_s=0.05)
@pytest.mark.usefixtures("gate")
async def test_a_call_without_a_deadline_has_the_servers(rpc: Rpc) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc.call("ModelInfer", infer("a"))
    check_refusal(caught.value)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "seconds" in (caught.value.details() or "")


async def test_rows_of_a_client_that_left_are_not_computed(rpc: Rpc, gate: Gate) -> None:
    staying = asyncio.create_task(rpc.call("ModelInfer", infer("a")))
    assert await asyncio.to_thread(gate.began.acquire, timeout=PATIENCE_S)
    leaving = asyncio.create_task(rpc.call("ModelInfer", infer("b", "c")))
    await rpc.server.waiting(2)
    leaving.cancel()
    path = BY_NAME["ModelInfer"].path
    async with asyncio.timeout(PATIENCE_S):
        while not rpc.server.metric("grpc_requests_total", method=path, code="CANCELLED"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    gate.set()
    await staying
    assert rpc.server.metric("batch_rows_sum", backbone=rpc.server.backbone.name) == 1


async def test_calls_whose_message_does_not_come_are_given_up(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.grpc.answer.NO_KEY_S", 0.2)
    monkeypatch.setattr("service.grpc.open.NO_KEY_S", 0.2)

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.sleep(PATIENCE_S)
        yield b""

    paths = (BY_NAME["ServerLive"].path, "/grpc.health.v1.Health/Check")
    calls = [
        rpc.channel.stream_unary(path, bytes, bytes)(nothing()) for path in paths for _ in range(15)
    ]
    without_key = rpc.channel.stream_unary(BY_NAME["ModelInfer"].path, bytes, bytes)(nothing())
    for call in calls:
        assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert await without_key.code() == grpc.StatusCode.UNAUTHENTICATED
    await rpc.call("ServerLive", BY_NAME["ServerLive"].request())


async def test_what_is_no_message_is_refused(rpc: Rpc) -> None:
    for path in (BY_NAME["ServerLive"].path, "/grpc.health.v1.Health/Check"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.channel.unary_unary(path, bytes, bytes)(b"\xff\xff\xff")
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    # The key comes before the message: nothing is unpacked for nobody.
    for _ in range(20):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.channel.unary_unary(BY_NAME["ModelInfer"].path, bytes, bytes)(b"\xff" * 10**6)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_messages_that_grow_in_memory_are_not_kept(rpc: Rpc) -> None:
    """Two million empty inputs are four megabytes on the wire and a hundred unpacked."""
    content, process = b"\x2a\x00" * 2_000_000, psutil.Process()
    call = rpc.channel.unary_unary(BY_NAME["ModelInfer"].path, bytes, bytes)
    metadata = (("authorization", f"Bearer {rpc.server.keys['acme']}"),)
    before = process.memory_info().rss
    for _ in range(12):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(content, metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    gc.collect()
    assert process.memory_info().rss - before < 100 * 2**20


async def test_calls_have_a_bound_that_tenants_share(rpc: Rpc, gate: Gate) -> None:
    rpc.served._intake._with_key.total = 4
    held = [asyncio.create_task(rpc.call("ModelInfer", infer("a"))) for _ in range(2)]
    assert await asyncio.to_thread(gate.began.acquire, timeout=PATIENCE_S)
    await asyncio.sleep(0.2)
    acme = rpc.server.keys["acme"]
    index = BY_NAME["RepositoryIndex"].request()
    said = await rpc.refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "ModelInfer", infer("a"))
    assert "2 calls" in said
    # Neither another tenant lacks a place, nor those that need no key.
    await rpc.call("RepositoryIndex", index, key=acme)
    await rpc.call("ServerLive", BY_NAME["ServerLive"].request(), key=None)
    gate.set()
    await asyncio.gather(*held)
    await rpc.call("ModelInfer", infer("a"))


async def test_calls_without_a_message_leave_room_for_other_hosts(rpc: Rpc) -> None:
    rpc.served._intake._without.total = 8

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.sleep(PATIENCE_S)
        yield b""

    path = "/grpc.health.v1.Health/Check"
    held = [rpc.channel.stream_unary(path, bytes, bytes)(nothing()) for _ in range(20)]
    codes = Counter([await call.code() for call in held])
    # One host has as many as it leaves free.
    assert codes == {
        grpc.StatusCode.RESOURCE_EXHAUSTED: 16,
        grpc.StatusCode.DEADLINE_EXCEEDED: 4,
    }
    assert rpc.served._intake._without.free == 8


@pytest.mark.settings(body_s=0.1)
async def test_an_upload_that_does_not_go_on_is_given_up(rpc: Rpc) -> None:
    async def stalled() -> AsyncIterator[registry_pb2.PublishRequest]:
        yield registry_pb2.PublishRequest(tenant="acme", adapter="intents", content=b"a")
        await asyncio.sleep(PATIENCE_S)

    method = BY_NAME["Publish"]
    publish = rpc.channel.stream_unary(
        method.path, method.request.SerializeToString, method.answer.FromString
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await publish(stalled(), metadata=(("authorization", f"Bearer {rpc.server.keys['acme']}"),))
    check_refusal(caught.value)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_health_is_told_and_goes_down_before_calls_are_refused(rpc: Rpc, gate: Gate) -> None:
    health: Any = health_pb2_grpc.HealthStub(rpc.channel)
    for service in ("", INFERENCE, REGISTRY):
        found = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert found.status == HEALTH.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="nothing"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watching = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watching.read()).status == HEALTH.SERVING
    under_way = asyncio.create_task(rpc.call("ModelInfer", infer("a")))
    assert await asyncio.to_thread(gate.began.acquire, timeout=PATIENCE_S)
    rpc.served.leave()
    assert (await watching.read()).status == HEALTH.NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watching.read()
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "stopping" in await rpc.refusal(grpc.StatusCode.UNAVAILABLE, "ModelInfer", infer("a"))
    assert (await rpc.call("ServerLive", BY_NAME["ServerLive"].request(), key=None)).live
    with pytest.raises(grpc.aio.AioRpcError, match="stopping"):
        await health.Watch(health_pb2.HealthCheckRequest()).read()
    gate.set()
    assert (await under_way).model_version == "1"
    await asyncio.wait_for(rpc.served.stop(), 1)  # nobody who only watches holds it up
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await rpc.call("ModelInfer", infer("a"))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_streams_without_a_key_leave_room_for_calls(rpc: Rpc) -> None:
    health: Any = health_pb2_grpc.HealthStub(rpc.channel)
    watching = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(64)]
    for each in watching:
        assert (await each.read()).status == HEALTH.SERVING
    one_more = health.Watch(health_pb2.HealthCheckRequest())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await one_more.read()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    await health.Check(health_pb2.HealthCheckRequest())
    await rpc.call("ModelInfer", infer("a"))
    watching.pop().cancel()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            again = health.Watch(health_pb2.HealthCheckRequest())
            try:
                assert (await again.read()).status == HEALTH.SERVING
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
    for each in (*watching, again):
        each.cancel()


async def test_reflection_tells_every_method(rpc: Rpc) -> None:
    def ask() -> set[tuple[str, str]]:
        with grpc.insecure_channel(f"127.0.0.1:{rpc.served.port}") as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            found = set()
            for service in database.get_services():
                file = database.FindFileContainingSymbol(service)
                for each in file.service:
                    found |= {(f"{file.package}.{each.name}", one.name) for one in each.method}
            return found

    told = await asyncio.to_thread(ask)
    assert {(method.service, method.name) for method in METHODS} <= told
    assert ("grpc.health.v1.Health", "Check") in told


async def test_a_port_that_is_taken_is_named(rpc: Rpc) -> None:
    with pytest.raises(InvalidInput, match=rf"127.0.0.1:{rpc.served.port}.*HEADSTOCK_GRPC_PORT"):
        GrpcServer(rpc.server.runtime, "127.0.0.1", rpc.served.port)
