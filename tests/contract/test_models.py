"""`/v1/models` in OpenAI's shape: backbones, and the adapters of the key's tenant."""

import pytest

from service.http import handlers
from tests.contract.support import ACME, Server

PATH = "/v1/models"


async def test_a_tenant_sees_backbones_and_its_own_adapters(server: Server) -> None:
    await server.publish(server.file(seed=3), path=f"{ACME}/adapters/topics")
    await server.publish(server.file(seed=4), path=f"{ACME}/adapters/unreleased", activate=False)
    found = await server.ok("GET", PATH, server.keys["acme"])
    assert (found["object"], found["has_more"]) == ("list", False)
    owners = {each["id"]: each["owned_by"] for each in found["data"]}
    assert owners == {"tiny": "headstock", "acme.intents": "acme", "acme.topics": "acme"}
    started = int(server.runtime.metrics.usage.since.timestamp())
    assert all(each["created"] == started for each in found["data"])
    for each in found["data"]:
        assert await server.ok("GET", f"{PATH}/{each['id']}", server.keys["acme"]) == each
    everything = await server.ok("GET", PATH)
    assert [each["id"] for each in everything["data"]] == [
        "tiny",
        "acme.intents",
        "acme.topics",
        "other.intents",
    ]


@pytest.mark.parametrize("model", ["other.intents", "nobody.intents"])
async def test_another_tenants_model_is_as_one_that_is_not_there(
    server: Server, model: str
) -> None:
    refused = await server.problem(404, "GET", f"{PATH}/{model}", server.keys["acme"])
    tenant = model.partition(".")[0]
    assert refused["error"]["message"] == f"no tenant {tenant!r}"


@pytest.mark.parametrize("model", ["gpt-4", "acme", "acme.none", "acme%2Fintents", "a.b.c", "%0A"])
async def test_what_is_no_model_is_not_found(server: Server, model: str) -> None:
    refused = await server.problem(404, "GET", f"{PATH}/{model}", server.keys["acme"])
    assert refused["error"]["code"] == "not-found"


async def test_the_list_comes_in_pages_too(server: Server) -> None:
    found, after = list[str](), dict[str, str]()
    while True:
        page = await server.ok("GET", PATH, params={"limit": 1, **after})
        found += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": found[-1]}
    assert found == ["tiny", "acme.intents", "other.intents"]
    own = {"after": "acme.intents"}
    assert (await server.ok("GET", PATH, server.keys["acme"], params=own))["data"] == []
    for wrong, status in (({"after": "nothing"}, 404), ({"limit": 0}, 422), ({"limit": "x"}, 422)):
        await server.problem(status, "GET", PATH, params=wrong)


async def test_the_list_has_an_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "MOST_MODELS", 2)
    found = await server.ok("GET", PATH)
    assert [each["id"] for each in found["data"]] == ["tiny", "acme.intents"]
    assert found["has_more"] is True
    own = await server.ok("GET", PATH, server.keys["other"])
    assert own["has_more"] is False
