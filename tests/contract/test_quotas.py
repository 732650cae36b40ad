"""Quotas and usage: what is over a limit is refused before it is done, what was done is counted."""

import pytest

from adapters.errors import TenantOverloaded
from tests.contract.support import ACME, ADMIN, INTENTS, PREDICT, Server

INPUTS = {"inputs": ["one two", "three"]}
EMBED = {"model": "tiny", "input": ["one two", "three"]}


async def set_quota(server: Server, **limits: int | None) -> None:
    await server.ok("PUT", f"{ACME}/quota", json=limits)


async def test_a_quota_is_set_by_operators_and_seen_by_its_tenant(server: Server) -> None:
    key = server.keys["acme"]
    nothing = dict.fromkeys(
        ("adapters", "versions", "bytes", "requests_per_minute", "tokens_per_minute")
    )
    assert await server.ok("GET", f"{ACME}/quota", key) == nothing
    await set_quota(server, adapters=3)
    assert await server.ok("GET", f"{ACME}/quota", key) == {**nothing, "adapters": 3}
    await server.problem(403, "PUT", f"{ACME}/quota", key, json={})
    for wrong in ({"adapters": -1}, {"adapters": "3"}, {"rows": 3}, {"bytes": 1.5}):
        await server.problem(422, "PUT", f"{ACME}/quota", json=wrong)
    for method, content in (("GET", None), ("PUT", {})):
        await server.problem(404, method, "/v1/tenants/nobody/quota", json=content)
    await server.problem(404, "GET", "/v1/tenants/nobody/usage")


async def test_an_upload_over_the_quota_is_refused(server: Server) -> None:
    await set_quota(server, versions=1)
    path = f"{INTENTS}/versions"
    problem = await server.problem(403, "POST", path, content=server.file(seed=7))
    assert problem["code"] == "quota-exceeded"
    assert len((await server.ok("GET", path))["versions"]) == 1
    await server.publish(server.file(seed=0))  # these bytes are there
    await set_quota(server, versions=2)
    await server.publish(server.file(seed=7))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (PREDICT, INPUTS),
        (f"{ACME}/predict", {**INPUTS, "adapters": ["intents"]}),
        ("/v1/embeddings", EMBED),
        (
            "/v2/models/acme.intents/infer",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["one two"]}]},
        ),
    ],
)
@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute"])
async def test_a_minute_has_an_end_on_every_way_to_an_answer(
    server: Server, path: str, content: dict[str, object], limit: str
) -> None:
    key = server.keys["acme"]
    await set_quota(server, **{limit: 1})
    assert (await server.call("POST", path, key, json=content)).is_success
    refused = await server.call("POST", path, key, json=content)
    assert refused.status_code == 429
    assert "rate-limited" in refused.text or "a minute" in refused.text
    assert int(refused.headers["retry-after"]) >= 1
    assert (await server.call("GET", f"{ACME}/adapters", key)).is_success
    await set_quota(server)
    assert (await server.call("POST", path, key, json=content)).is_success


async def test_what_was_answered_is_counted(server: Server) -> None:
    before = await server.ok("GET", f"{ACME}/usage")
    assert (before["requests"], before["rows"], before["compute_share"]) == (0, 0, 0)
    assert (before["adapters"], before["versions"]) == (1, 1)
    await server.ok("POST", PREDICT, server.keys["acme"], json=INPUTS)
    await server.problem(422, "POST", PREDICT, server.keys["acme"], json={"inputs": []})
    one = await server.ok("GET", f"{ACME}/usage", server.keys["acme"])
    assert (one["requests"], one["rows"], one["compute_share"]) == (1, 2, 1)
    assert one["tokens"] > 2
    assert one["bytes"] == len(server.file())
    other = "/v1/tenants/other"
    await server.ok("POST", f"{other}/adapters/intents/predict", json=INPUTS)
    assert (await server.ok("GET", f"{other}/usage"))["compute_share"] == 0.5
    await server.ok("POST", "/v1/embeddings", server.keys["acme"], json=EMBED)
    two = await server.ok("GET", f"{ACME}/usage")
    assert (two["requests"], two["rows"], two["tokens"]) == (2, 4, 2 * one["tokens"])
    assert two["since"] == before["since"]


async def test_metrics_name_few_tenants_however_many_there_are(server: Server) -> None:
    usage = server.runtime.metrics.usage
    for number in range(10_000):
        usage.add(f"tenant-{number}", requests=1, rows=2, tokens=3, cost=number)
    metric = server.runtime.metrics.registry.get_sample_value
    assert metric("headstock_tenant_cost_total", {"tenant": "tenant-9999"}) == 9999
    assert metric("headstock_tenant_cost_total", {"tenant": "tenant-9979"}) is None
    assert metric("headstock_tenant_rows_total", {"tenant": "other tenants"}) == 2 * 9980
    text = server.runtime.metrics.render().decode()
    assert text.count("headstock_tenant_rows_total{") == 21


@pytest.mark.parametrize(("path", "content"), [(PREDICT, INPUTS), ("/v1/embeddings", EMBED)])
async def test_tokens_that_the_engine_refuses_are_given_back(
    server: Server, monkeypatch: pytest.MonkeyPatch, path: str, content: dict[str, object]
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise TenantOverloaded("too much is waiting")

    key = server.keys["acme"]
    await set_quota(server, tokens_per_minute=1)
    with monkeypatch.context() as patch:
        patch.setattr("service.engine.Engine.answer", refuse)
        for _ in range(3):
            refused = await server.call("POST", path, key, json=content)
            assert "too much is waiting" in refused.text
    assert (await server.call("POST", path, key, json=content)).is_success
    assert "a minute" in (await server.call("POST", path, key, json=content)).text


INFER = "/v2/models/acme.intents/infer"
CHARGED = (PREDICT, f"{ACME}/predict", "/predict", "/v1/embeddings", INFER)


@pytest.mark.parametrize("path", CHARGED)
async def test_what_is_refused_unread_costs_no_request(server: Server, path: str) -> None:
    key, longest = server.keys["acme"], server.runtime.settings.max_body_bytes
    await set_quota(server, requests_per_minute=1)
    for _ in range(3):
        refused = await server.call("POST", path, key, content=b" " * (longest + 1))
        assert refused.status_code == 413
    assert (await server.call("POST", "/v1/embeddings", key, json=EMBED)).is_success


@pytest.mark.parametrize("path", CHARGED)
@pytest.mark.parametrize("content", [b"no JSON", b'{"inputs": 5}', b"[" + b"1," * 10**5 + b"1]"])
async def test_what_is_refused_for_its_body_costs_its_request(
    server: Server, monkeypatch: pytest.MonkeyPatch, path: str, content: bytes
) -> None:
    """And the next one, for which nothing is left, is refused before it is read."""
    key = server.keys["acme"]
    await set_quota(server, requests_per_minute=1)
    assert (await server.call("POST", path, key, content=content)).status_code in (400, 413, 422)

    async def read(*_: object) -> bytes:
        raise AssertionError("it was read")

    monkeypatch.setattr("service.http.call.HttpCall.body", read)
    assert (await server.call("POST", path, key, content=content)).status_code == 429


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (PREDICT, INPUTS),
        (f"{ACME}/predict", {**INPUTS, "adapters": ["intents"]}),
        ("/predict", {**INPUTS, "tenant": "acme", "adapter": "intents"}),
        ("/v1/embeddings", {"input": "one", "model": "acme.intents"}),
        (
            INFER,
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["one two"]}]},
        ),
    ],
)
@pytest.mark.parametrize("holder", ["acme", "admin"])
async def test_a_request_is_charged_once_whoever_sends_it(
    server: Server, path: str, content: dict[str, object], holder: str
) -> None:
    key = server.keys["acme"] if holder == "acme" else ADMIN
    await set_quota(server, requests_per_minute=2)
    for status in (200, 200, 429):
        assert (await server.call("POST", path, key, json=content)).status_code == status
