import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.support import ACME, PREDICT, Server

INPUTS = {"inputs": ["hello"]}


async def test_a_tenant_is_created_and_listed(server: Server) -> None:
    response = await server.call("POST", "/v1/tenants", json={"name": "third-1"})
    assert response.status_code == 201
    assert response.json()["name"] == "third-1"
    listed = (await server.ok("GET", "/v1/tenants"))["tenants"]
    assert [each["name"] for each in listed] == ["acme", "other", "third-1"]
    assert await server.ok("GET", "/v1/tenants/third-1/adapters") == {"adapters": [], "next": None}


async def test_a_tenants_name_is_taken_once(server: Server) -> None:
    problem = await server.problem(409, "POST", "/v1/tenants", json={"name": "acme"})
    assert "acme" in problem["detail"]


async def test_a_key_works_from_its_answer_on(server: Server) -> None:
    response = await server.call("POST", f"{ACME}/keys", json={"scopes": ["predict"]})
    assert response.status_code == 201
    await server.ok("POST", PREDICT, response.json()["key"], json=INPUTS)


async def test_keys_are_listed_without_their_secrets(server: Server) -> None:
    text = await server.new_key("acme", "predict")
    response = await server.call("GET", f"{ACME}/keys")
    keys = response.json()["keys"]
    assert [key["scopes"] for key in keys] == [["predict", "publish"], ["predict"]]
    assert text.split("_")[1] == keys[1]["id"]
    assert text.split("_")[2] not in response.text


async def test_a_third_live_key_is_refused_until_one_is_revoked(server: Server) -> None:
    await server.new_key("acme", "predict")
    await server.problem(409, "POST", f"{ACME}/keys", json={"scopes": ["predict"]})
    first = server.keys["acme"].split("_")[1]
    assert (await server.call("DELETE", f"{ACME}/keys/{first}")).status_code == 204
    await server.new_key("acme", "predict")
    await server.new_key("other", "predict")  # the limit is each tenant's own


async def test_a_revoked_key_is_refused_at_once(server: Server) -> None:
    key = await server.new_key("acme", "predict")
    await server.ok("POST", PREDICT, key, json=INPUTS)
    key_id = key.split("_")[1]
    await server.ok("DELETE", f"{ACME}/keys/{key_id}")
    await server.problem(401, "POST", PREDICT, key, json=INPUTS)
    await server.ok("POST", PREDICT, server.keys["acme"], json=INPUTS)
    listed = (await server.ok("GET", f"{ACME}/keys"))["keys"]
    assert [each["revoked_at"] is not None for each in listed if each["id"] == key_id] == [True]
    await server.ok("DELETE", f"{ACME}/keys/{key_id}")  # again changes nothing


async def test_a_key_is_refused_when_its_time_is_over(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"scopes": ["predict"], "expires_in_s": 60}
    made = await server.ok("POST", f"{ACME}/keys", json=wanted)
    await server.ok("POST", PREDICT, made["key"], json=INPUTS)
    later = datetime.now(UTC) + timedelta(seconds=61)
    monkeypatch.setattr(server.runtime.keyring, "_clock", lambda: later)
    await server.problem(401, "POST", PREDICT, made["key"], json=INPUTS)
    await server.ok("POST", PREDICT, server.keys["acme"], json=INPUTS)


async def test_a_key_is_replaced_with_no_moment_in_which_none_works(server: Server) -> None:
    old = server.keys["acme"]
    rotate = f"{ACME}/keys/{old.split('_')[1]}/rotate"
    response = await server.call("POST", rotate, json={"overlap_s": 3600})
    assert response.status_code == 201
    for key in (old, response.json()["key"]):
        await server.ok("POST", PREDICT, key, json=INPUTS)
    listed = (await server.ok("GET", f"{ACME}/keys"))["keys"]
    assert [each["expires_at"] is not None for each in listed] == [True, False]
    await server.problem(409, "POST", rotate, json={})
    at_once = await server.ok("POST", rotate, json={"overlap_s": 0})
    await server.problem(401, "POST", PREDICT, old, json=INPUTS)
    await server.ok("POST", PREDICT, at_once["key"], json=INPUTS)
    await server.problem(404, "POST", rotate, json={"overlap_s": 0})
    await server.problem(422, "POST", rotate, json={"overlap_s": -1})


async def test_changes_are_listed_for_those_whose_they_are(server: Server) -> None:
    for number in range(3):
        await server.publish(server.file(seed=number + 5))
    key = await server.new_key("acme", "publish")
    listed = (await server.ok("GET", f"{ACME}/audit", key))["changes"]
    assert [each["action"] for each in listed[:3]] == [
        "key.create",
        "release.set",
        "version.publish",
    ]
    assert {each["tenant"] for each in listed} == {"acme"}
    everything = (await server.ok("GET", "/v1/audit"))["changes"]
    assert {each["tenant"] for each in everything} == {"acme", "other"}
    assert key.split("_")[2] not in str(everything)
    first = (await server.ok("GET", "/v1/audit?limit=2"))["changes"]
    rest = await server.ok("GET", f"/v1/audit?after={first[-1]['seq']}")
    assert [*first, *rest["changes"]] == everything
    await server.problem(404, "GET", "/v1/tenants/nobody/audit")
    for query in ("limit=0", "limit=1001", "limit=x", "after=0", f"after={2**63}", "limit="):
        await server.problem(422, "GET", f"/v1/audit?{query}")


async def test_one_tenants_key_is_not_revoked_through_another(server: Server) -> None:
    key = server.keys["other"]
    await server.problem(404, "DELETE", f"{ACME}/keys/{key.split('_')[1]}")
    await server.problem(404, "DELETE", f"{ACME}/keys/unknown0")
    await server.ok("GET", "/v1/tenants/other/adapters", key)


async def test_nobodys_keys_and_adapters_are_not_found(server: Server) -> None:
    await server.problem(404, "POST", "/v1/tenants/nobody/keys", json={"scopes": ["predict"]})
    for part in ("keys", "adapters", "adapters/x/versions", "adapters/x/release"):
        await server.problem(404, "GET", f"/v1/tenants/nobody/{part}")


async def test_a_name_is_given_once_however_many_ask(server: Server) -> None:
    calls = [server.call("POST", "/v1/tenants", json={"name": "wanted"}) for _ in range(8)]
    statuses = [response.status_code for response in await asyncio.gather(*calls)]
    assert sorted(statuses) == [201] + [409] * 7
