import random
import string
from pathlib import Path

from pydantic import SecretStr

from tests.contract.support import ADMIN, PREDICT, Server, Template, serving
from tests.contract.test_access import GUARDED, path

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
SHAPES = [
    "/{}",
    "/{}/{}",
    "/v1/tenants/{}",
    "/v1/tenants/{}/adapters",
    "/v1/tenants/{}/adapters/{}/predict",
    "/v1/tenants/acme/adapters/{}/predict",
    "/v1/tenants/acme/adapters/intents/versions/{}",
    "/docs/assets/{}",
]


async def series(server: Server) -> set[str]:
    response = await server.call("GET", "/metrics", key=None)
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


async def ask_at_random(server: Server, seed: int) -> None:
    chooser = random.Random(seed)
    for _ in range(500):
        words = ["".join(chooser.choices(string.ascii_lowercase, k=8)) for _ in range(2)]
        key = chooser.choice([None, "wrong", server.keys["acme"]])
        method = chooser.choice([*METHODS, words[0].upper()])
        await server.call(method, chooser.choice(SHAPES).format(*words), key)


async def test_metrics_may_ask_for_a_key_of_their_own(tmp_path: Path, template: Template) -> None:
    own = "what-prometheus-sends-0123456789-abc"
    async with serving(tmp_path, template, metrics_key=SecretStr(own)) as server:
        slow = {"X-Request-Timeout": "slow"}
        for wrong, status in ((None, 401), (own[:-1], 401), (server.keys["acme"], 403)):
            await server.problem(status, "GET", "/metrics", wrong, headers=slow)
            assert (await server.call("HEAD", "/metrics", wrong)).status_code == status
        for right in (own, ADMIN):
            assert "headstock_requests_total" in (await server.call("GET", "/metrics", right)).text
        for route in GUARDED:  # it opens nothing else
            await server.problem(401, route.method, path(route), own)


async def test_no_request_makes_a_series_of_its_own(server: Server) -> None:
    await series(server)  # this route has series of its own
    await ask_at_random(server, seed=1)
    before = await series(server)
    await ask_at_random(server, seed=2)
    assert await series(server) == before
    assert len(before) < 1000


async def test_labels_hold_no_word_of_a_customer(server: Server) -> None:
    await server.predict("confidential")
    await server.problem(404, "GET", "/v1/tenants/acme/adapters/intents/versions/77")
    # What tenants used is by their names, of a few; these are an operator's words.
    own = [each for each in await series(server) if not each.startswith("headstock_tenant_")]
    text = "\n".join(own)
    assert not [word for word in ("acme", "intents", "confidential", "77", "hs_") if word in text]


async def test_requests_are_counted_by_route_and_status(server: Server) -> None:
    route = {"method": "POST", "route": "/v1/tenants/{tenant}/adapters/{adapter}/predict"}
    for _ in range(3):
        await server.predict("x")
    await server.problem(401, "POST", PREDICT, key=None)
    await server.problem(422, "POST", PREDICT, json={"inputs": []})
    await server.problem(404, "GET", "/nothing")
    assert server.metric("requests_total", status="200", **route) == 3
    assert server.metric("requests_total", status="401", **route) == 1
    assert server.metric("requests_total", status="422", **route) == 1
    assert server.metric("request_seconds_count", **route) == 5
    unmatched = {"method": "GET", "route": "unmatched", "status": "404"}
    assert server.metric("requests_total", **unmatched) == 1


async def test_batches_and_adapters_are_measured(server: Server) -> None:
    name = {"backbone": server.backbone.name}
    await server.predict("ab", "abcd")
    await server.predict("abc")
    assert server.metric("batch_rows_count", **name) == 2
    assert server.metric("batch_rows_sum", **name) == 3
    assert server.metric("batch_adapters_sum", **name) == 2
    assert server.metric("batch_tokens_total", kind="text", **name) == 9
    assert server.metric("batch_tokens_total", kind="padded", **name) == 11
    assert server.metric("queue_seconds_count", **name) == 3
    assert server.metric("backbone_seconds_count", **name) == 2
    assert server.metric("queue_rows", **name) == 0
    assert server.metric("resident_adapters") == 1
    assert server.metric("resident_bytes") == len(server.file(0))
    assert server.metric("adapter_loads_total", outcome="loaded") == 1
