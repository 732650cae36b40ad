"""Tenants, adapters and versions are deleted, and a name that comes back starts clean."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from headstock.client import AsyncClient, RequestFailed
from service.protos import registry_pb2 as pb
from tests.contract.grpc_support import Rpc
from tests.contract.support import ACME, INTENTS, PREDICT, Server

OTHERS = "/v1/tenants/other/adapters/intents"
ACME_NAMES: dict[str, Any] = {"tenant": "acme", "adapter": "intents"}


async def test_a_version_is_deleted_unless_it_is_released(server: Server) -> None:
    key = server.keys["acme"]
    second = await server.publish(server.file(seed=5))
    refused = await server.problem(409, "DELETE", f"{INTENTS}/versions/2", key)
    assert "released" in refused["detail"]
    await server.ok("DELETE", f"{INTENTS}/versions/1", key)
    listed = (await server.ok("GET", f"{INTENTS}/versions", key))["versions"]
    assert [each["version"] for each in listed] == [2]
    for path in (f"{INTENTS}/versions/1", f"{INTENTS}/versions/1/file"):
        await server.problem(404, "GET", path, key)
    await server.problem(404, "DELETE", f"{INTENTS}/versions/1", key)
    await server.problem(409, "POST", f"{INTENTS}/release/rollback", key)
    assert (await server.predict("x"))["adapter"]["digest"] == second["digest"]
    again = await server.publish(server.file(seed=6), activate=False)
    assert again["version"] == 3


async def test_a_version_that_is_asked_by_number_answers_no_more(server: Server) -> None:
    first = (await server.ok("GET", f"{INTENTS}/versions/1"))["digest"]
    await server.publish(server.file(seed=5))
    path = "/v2/models/acme.intents/versions/1/infer"
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}
    await server.ok("POST", path, json={"inputs": [tensor]})
    assert first in server.runtime.router._residents
    await server.ok("DELETE", f"{INTENTS}/versions/1")
    assert first not in server.runtime.router._residents
    await server.problem(404, "POST", path, json={"inputs": [tensor]})


async def test_an_adapter_goes_at_once_and_comes_back_as_another(server: Server) -> None:
    key = server.keys["acme"]
    await server.predict("x")
    await server.ok("DELETE", INTENTS, key)
    await server.problem(404, "POST", PREDICT, key, json={"inputs": ["x"]})
    await server.problem(404, "DELETE", INTENTS, key)
    assert (await server.ok("GET", f"{ACME}/adapters", key))["adapters"] == []
    assert (await server.ok("GET", f"{ACME}/usage"))["bytes"] == 0
    assert (await server.ok("POST", f"{OTHERS}/predict", json={"inputs": ["x"]}))["predictions"]
    published = await server.publish(server.file(seed=9))
    assert (published["version"], published["release"]["revision"]) == (1, 1)
    assert (await server.predict("x"))["adapter"]["digest"] == published["digest"]


async def test_a_tenant_goes_at_once_and_comes_back_with_nothing(server: Server) -> None:
    key = server.keys["acme"]
    await server.ok("PUT", f"{ACME}/quota", json={"requests_per_minute": 1})
    await server.ok("POST", PREDICT, key, json={"inputs": ["x"]})
    await server.problem(429, "POST", PREDICT, key, json={"inputs": ["x"]})
    await server.problem(403, "DELETE", ACME, key)
    await server.ok("DELETE", ACME)
    await server.problem(401, "GET", f"{ACME}/adapters", key)
    for path in (f"{ACME}/adapters", f"{ACME}/keys", f"{ACME}/usage", f"{ACME}/audit"):
        await server.problem(404, "GET", path)
    listed = (await server.ok("GET", "/v1/tenants"))["tenants"]
    assert [each["name"] for each in listed] == ["other"]
    assert (await server.ok("GET", "/v1/audit"))["changes"][0]["action"] == "tenant.delete"

    await server.ok("POST", "/v1/tenants", json={"name": "acme"})
    await server.problem(401, "GET", f"{ACME}/adapters", key)
    assert (await server.ok("GET", f"{ACME}/keys"))["keys"] == []
    assert (await server.ok("GET", f"{ACME}/usage"))["requests"] == 0
    assert (await server.ok("GET", f"{ACME}/quota"))["requests_per_minute"] is None
    [change] = (await server.ok("GET", f"{ACME}/audit"))["changes"]
    assert change["action"] == "tenant.create"
    await server.ok("PUT", f"{ACME}/quota", json={"requests_per_minute": 1})
    await server.publish(server.file())
    await server.predict("x")  # its bucket is full


async def test_a_request_under_way_is_answered(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, began, go = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    run = server.backbone.run

    def held(*arguments: object) -> object:
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(20)
        return run(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(server.backbone, "run", held)
    asked = asyncio.create_task(server.predict("x"))
    await began.wait()
    await server.ok("DELETE", ACME)
    go.set()
    assert len((await asked)["predictions"]) == 1


async def test_features_of_a_tenant_that_was_deleted_are_forgotten(server: Server) -> None:
    directory, forgotten = server.runtime.pipeline._directory, list[str]()
    directory._forget = forgotten.append
    await server.ok("PUT", f"{ACME}/feature-cache", json={"mode": "own"})
    # Another server deletes it, and makes one of the same name with the same mode, between looks.
    registry = server.runtime.registry
    registry.delete_tenant("acme", actor="admin")
    registry.create_tenant("acme", actor="admin")
    registry.set_feature_cache("acme", "own", actor="admin")
    await server.runtime.follower.catch_up()
    assert forgotten == ["acme"]
    await server.problem(401, "GET", f"{ACME}/adapters", server.keys["acme"])


@pytest.mark.parametrize("path", [INTENTS, f"{INTENTS}/versions/1"])
async def test_another_tenants_things_are_not_deleted(server: Server, path: str) -> None:
    await server.problem(404, "DELETE", path, server.keys["other"])
    predicting = await server.new_key("acme", "predict")
    await server.problem(403, "DELETE", path, predicting)
    await server.problem(401, "DELETE", path, None)
    await server.predict("x")


async def test_grpc_deletes_too(rpc: Rpc) -> None:
    key = rpc.server.keys["acme"]
    await rpc.server.publish(rpc.server.file(seed=5), activate=False)
    released = pb.DeleteVersionRequest(**ACME_NAMES, version=1)
    await rpc.refusal(grpc.StatusCode.FAILED_PRECONDITION, "DeleteVersion", released, key=key)
    await rpc.call("DeleteVersion", pb.DeleteVersionRequest(**ACME_NAMES, version=2), key=key)
    listed = await rpc.call("ListVersions", pb.ListVersionsRequest(**ACME_NAMES), key=key)
    assert [each.number for each in listed.versions] == [1]
    await rpc.call("DeleteAdapter", pb.DeleteAdapterRequest(**ACME_NAMES), key=key)
    await rpc.refusal(
        grpc.StatusCode.NOT_FOUND, "GetRelease", pb.GetReleaseRequest(**ACME_NAMES), key=key
    )
    await rpc.call("DeleteTenant", pb.DeleteTenantRequest(tenant="acme"))
    await rpc.refusal(
        grpc.StatusCode.UNAUTHENTICATED,
        "ListAdapters",
        pb.ListAdaptersRequest(tenant="acme"),
        key=key,
    )


LISTS = {
    "/v1/tenants": ("tenants", "name"),
    f"{ACME}/adapters": ("adapters", "name"),
    f"{ACME}/keys": ("keys", "id"),
    f"{INTENTS}/versions": ("versions", "version"),
    "/v1/audit": ("changes", "seq"),
    f"{ACME}/audit": ("changes", "seq"),
    "/v1/backbones": ("backbones", "name"),
}


@pytest.fixture
async def filled(server: Server) -> Server:
    """With five and more of everything but backbones."""
    for seed in range(5):
        await server.ok("POST", "/v1/tenants", json={"name": f"t{seed}"})
        await server.publish(server.file(seed=seed + 10), activate=False)
        other = f"{ACME}/adapters/a{seed}"
        await server.publish(server.file(seed=seed + 10), path=other, activate=False)
        key = (await server.new_key("acme", "predict")).split("_")[1]
        await server.ok("DELETE", f"{ACME}/keys/{key}")
    return server


@pytest.mark.parametrize("path", LISTS)
async def test_pages_of_a_list_make_the_whole(filled: Server, path: str) -> None:
    items, name = LISTS[path]
    whole = await filled.ok("GET", path)
    assert whole["next"] is None
    found, after = [], None
    while True:
        params = {"limit": "2"} | ({} if after is None else {"after": str(after)})
        page = await filled.ok("GET", path, params=params)
        found += page[items]
        after = page["next"]
        if after is None:
            break
        assert len(page[items]) == 2
        assert after == page[items][-1][name]
    assert found == whole[items]
    exact = await filled.ok("GET", path, params={"limit": str(len(found))})
    assert exact["next"] is None
    for wrong in ("limit=0", "limit=1001", "limit=two", "after=" + "x" * 128):
        await filled.problem(422, "GET", f"{path}?{wrong}")


async def test_pages_over_grpc_make_the_whole(rpc: Rpc, filled: Server) -> None:
    names = [each["name"] for each in (await filled.ok("GET", f"{ACME}/adapters"))["adapters"]]
    found, after = [], ""
    while True:
        request = pb.ListAdaptersRequest(tenant="acme", limit=2, after=after)
        page = await rpc.call("ListAdapters", request)
        found += [each.name for each in page.adapters]
        after = page.next
        if not after:
            break
    assert found == names
    page = await rpc.call("ListVersions", pb.ListVersionsRequest(**ACME_NAMES, limit=2, after=2))
    assert ([each.number for each in page.versions], page.next) == ([3, 4], 4)
    for limit in (-1, 1001):
        wrong = pb.ListAdaptersRequest(tenant="acme", limit=limit)
        await rpc.refusal(grpc.StatusCode.INVALID_ARGUMENT, "ListAdapters", wrong)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("http://headstock", server.keys["acme"]) as client:
        await client._http.aclose()
        client._http = server.http
        server.http.headers["Authorization"] = f"Bearer {server.keys['acme']}"
        yield client


async def test_the_client_lists_and_deletes(server: Server, client: AsyncClient) -> None:
    await server.publish(server.file(seed=5))
    page = await client.list_versions("acme", "intents", limit=1)
    assert ([each["version"] for each in page["versions"]], page["next"]) == ([1], 1)
    await client.delete_version("acme", "intents", 1)
    assert (await client.get_version("acme", "intents", 2))["manifest"]["labels"] == ["no", "yes"]
    await client.delete_adapter("acme", "intents")
    assert (await client.list_adapters("acme"))["adapters"] == []
    with pytest.raises(RequestFailed) as refused:
        await client.delete_tenant("acme")
    assert refused.value.status == 403
