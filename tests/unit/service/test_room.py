"""Who has the places of streams that need no key. Real calls: tests/contract/test_grpc_life.py."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

import grpc

from service.grpc.connections import Connections
from service.grpc.open import Room
from service.metrics import Metrics
from tests.unit.service.support import turn


class Ended(Exception):
    pass


class Context:
    """A call of a host, as gRPC shows it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.code: grpc.StatusCode | None = None
        self.details = ""

    def peer(self) -> str:
        return f"ipv6:%5B{self.host}%5D:40000" if ":" in self.host else f"ipv4:{self.host}:40000"

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.details = code, details
        raise Ended


class Calls:
    """Endless streams in a room."""

    def __init__(self, most: int) -> None:
        self.room = Room(Connections(256, None, Metrics()), most)
        self.contexts: list[Context] = []
        self.tasks: list[asyncio.Task[Any]] = []

    async def begin(self, host: str) -> Context:
        context = Context(host)
        self.contexts.append(context)
        self.tasks.append(asyncio.create_task(self._watch(context)))
        await turn()
        await turn()  # of who has to go for it
        return context

    async def _watch(self, context: Any) -> None:
        with contextlib.suppress(Ended):
            async with self.room.place(context):
                await asyncio.Event().wait()

    def inside(self) -> Counter[str]:
        of_all = zip(self.contexts, self.tasks, strict=True)
        return Counter(each.host for each, task in of_all if not task.done())

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_one_host_cannot_keep_others_out() -> None:
    calls = Calls(8)
    greedy = [await calls.begin("10.0.0.1") for _ in range(8)]
    assert (await calls.begin("10.0.0.1")).code == grpc.StatusCode.RESOURCE_EXHAUSTED
    for _ in range(4):
        assert (await calls.begin("10.0.0.2")).code is None
    assert calls.inside() == {"10.0.0.1": 4, "10.0.0.2": 4}
    # The oldest went, and clients may try again.
    assert [each.code for each in greedy[:4]] == [grpc.StatusCode.UNAVAILABLE] * 4
    for host in ("10.0.0.1", "10.0.0.2"):
        assert (await calls.begin(host)).code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await calls.begin("10.0.0.3")).code is None
    assert calls.inside() == {"10.0.0.1": 3, "10.0.0.2": 4, "10.0.0.3": 1}
    await calls.end()


async def test_one_host_of_many_addresses_is_one() -> None:
    calls = Calls(4)
    for number in range(4):
        assert (await calls.begin(f"2001:db8::{number}")).code is None
    assert (await calls.begin("2001:db8::ffff")).code == grpc.StatusCode.RESOURCE_EXHAUSTED
    for other in ("2001:db8:0:1::1", "10.0.0.2"):
        assert (await calls.begin(other)).code is None
    await calls.end()


async def test_all_are_sent_away_when_the_server_stops() -> None:
    calls = Calls(8)
    contexts = [await calls.begin(f"10.0.0.{number % 3}") for number in range(8)]
    calls.room.close()
    await turn()
    assert [each.code for each in contexts] == [grpc.StatusCode.UNAVAILABLE] * 8
    assert "stopping" in contexts[0].details
    assert (await calls.begin("10.0.0.9")).code == grpc.StatusCode.UNAVAILABLE
    assert not calls.inside()


async def test_a_client_that_leaves_makes_room() -> None:
    calls = Calls(1)
    await calls.begin("10.0.0.1")
    calls.tasks[0].cancel()
    await turn()
    assert calls.tasks[0].cancelled()
    assert (await calls.begin("10.0.0.1")).code is None
    await calls.end()
