"""Who waits how long, and for whom: a request for its answer, and none for another's database."""

import asyncio
import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.types import Message

from adapters.registry import BUSY_TIMEOUT_S
from backbone import PlacedLora, TextRow
from service import changes
from service.http import HttpApp
from service.settings import Settings
from tests.contract.support import PREDICT, Server, predict_scope

PATIENCE_S = 20
ROUTE = {"method": "POST", "route": "/v1/tenants/{tenant}/adapters/{adapter}/predict"}


class Held:
    """Holds every call in its thread until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.n_calls = 0
        self._open = threading.Event()

    def __call__(self) -> None:
        self.n_calls += 1
        self.entered.release()
        assert self._open.wait(PATIENCE_S)

    def let_go(self) -> None:
        self._open.set()

    async def began(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=PATIENCE_S)


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.let_go()


@pytest.fixture
def runs(server: Server, held: Held, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each run of the backbone; runs are held."""
    run, sizes = server.backbone.run, list[int]()

    def held_run(
        rows: Sequence[TextRow], features: Collection[str], loras: Sequence[PlacedLora | None] = ()
    ) -> Mapping[str, NDArray[np.float32]]:
        sizes.append(len(rows))
        held()
        return run(rows, features, loras)

    monkeypatch.setattr(server.backbone, "run", held_run)
    return sizes


def holding(held: Held) -> Callable[..., None]:
    def hold(*_: object, **__: object) -> None:
        held()

    return hold


@pytest.mark.settings(request_s=0.05)
async def test_a_prediction_that_takes_too_long_is_told_and_its_rows_are_not_computed(
    server: Server, runs: list[int], held: Held
) -> None:
    for _ in range(3):
        problem = await server.problem(503, "POST", PREDICT, json={"inputs": ["x"]})
        assert problem["code"] == "timed-out"
    assert server.metric("requests_total", status="503", **ROUTE) == 3
    held.let_go()
    await server.runtime.engines[0].stop()
    assert runs == [1]


@pytest.mark.settings(request_s=0.05)
async def test_a_registry_that_hangs_is_told_in_time(
    server: Server, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.runtime.registry, "list_tenants", holding(held))
    assert (await server.problem(503, "GET", "/v1/tenants"))["code"] == "timed-out"
    held.let_go()


async def test_what_could_never_be_done_in_time_is_not_sent_away_to_try_again(
    server: Server, runs: list[int], held: Held
) -> None:
    held.let_go()
    key = server.keys["acme"]
    await server.ok("PUT", "/v1/tenants/acme/quota", json={"tokens_per_minute": 1000})
    server.runtime.engines[
        0
    ]._workers.speed.tokens_per_s = 2.5  # of which four times as much may be true
    wanted = {"inputs": ["x y z"] * 60}
    for _ in range(20):  # its tokens are given back each time
        problem = await server.problem(413, "POST", PREDICT, key, json=wanted)
        assert problem["code"] == "too-large"
        assert "have 9.0; send at most" in problem["detail"]
    few, hurried = {"inputs": ["x y z"] * 3}, {"X-Request-Timeout": "0.5"}
    problem = await server.problem(504, "POST", PREDICT, key, json=few, headers=hurried)
    assert "or allow more time" in problem["detail"]
    assert runs == []
    await server.ok("POST", PREDICT, key, json=few)


async def test_rows_of_a_client_that_left_are_not_computed(
    server: Server, runs: list[int], held: Held
) -> None:
    staying = asyncio.create_task(server.predict("x"))
    await held.began()
    leave = asyncio.Event()
    leaving = asyncio.create_task(leave_a_prediction(server, leave))
    await server.waiting(1)
    leave.set()
    await asyncio.wait_for(leaving, PATIENCE_S)
    assert server.metric("requests_total", status="499", **ROUTE) == 1
    held.let_go()
    await staying
    await server.predict("y")
    assert runs == [1, 1]


async def leave_a_prediction(server: Server, leave: asyncio.Event) -> None:
    """Send a request, and close the connection before the answer."""
    body = json.dumps({"inputs": ["a", "b"]}).encode()
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        pass

    scope = predict_scope(server)
    http = HttpApp()
    http.runtime = server.runtime
    await http(scope, receive, send)


async def test_predictions_and_loads_wait_for_no_writer(
    server: Server, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/v1/tenants/acme/adapters/second"
    await server.publish(server.file(7), path=path)
    for digest in list(server.runtime.router._residents._adapters):
        server.runtime.router._residents.drop(digest)
    monkeypatch.setattr(server.runtime.registry, "create_tenant", holding(held))
    writes = [
        asyncio.create_task(server.call("POST", "/v1/tenants", json={"name": f"t{n}"}))
        for n in range(40)
    ]
    await held.began()
    text = "word " * 5000
    await asyncio.wait_for(server.predict(text), PATIENCE_S / 2)
    await asyncio.wait_for(server.predict(text, path=path), PATIENCE_S / 2)
    await asyncio.wait_for(server.ok("GET", "/v1/tenants"), PATIENCE_S / 2)
    held.let_go()
    await asyncio.gather(*writes)


async def test_a_write_whose_turn_does_not_come_is_refused_and_never_done(
    server: Server, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.changes._TURN_S", 0.05)
    monkeypatch.setattr(server.runtime.registry, "create_tenant", holding(held))
    first = asyncio.create_task(server.call("POST", "/v1/tenants", json={"name": "first"}))
    await held.began()
    problem = await server.problem(503, "POST", "/v1/tenants", json={"name": "second"})
    assert problem["code"] == "registry-unavailable"
    held.let_go()
    await first
    assert held.n_calls == 1


def test_each_wait_ends_within_the_one_around_it() -> None:
    settings = Settings()
    assert settings.body_s < settings.request_s < settings.bentoml_s < settings.drain_s
    assert settings.request_s > changes._TURN_S + BUSY_TIMEOUT_S
