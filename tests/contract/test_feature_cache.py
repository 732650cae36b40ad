"""A tenant's consent to a cache of features: who sets it, when it holds, what is written down."""

from pathlib import Path
from typing import Any

import pytest

from tests.contract.support import ACME, ADMIN, Server, Template, serving

CACHE = f"{ACME}/feature-cache"
OTHERS = "/v1/tenants/other/feature-cache"


def mode(server: Server, tenant: str = "acme") -> str:
    """What the directory of this server holds: what a prediction is answered by."""
    return server.runtime.pipeline._directory.cache_mode(tenant)


async def test_it_is_off_until_the_tenant_sets_it_and_holds_at_once(server: Server) -> None:
    key = server.keys["acme"]
    assert await server.ok("GET", CACHE, key) == {"mode": "off"}
    for wanted in ("own", "shared", "off", "own"):
        assert await server.ok("PUT", CACHE, key, json={"mode": wanted}) == {"mode": wanted}
        assert mode(server) == wanted
        assert await server.ok("GET", CACHE, key) == {"mode": wanted}
    assert await server.ok("GET", OTHERS) == {"mode": "off"}
    assert mode(server, "other") == "off"


async def test_an_operator_may_set_it_and_whoever_does_is_written_down(server: Server) -> None:
    registry = server.runtime.registry
    before = registry.head().seq
    await server.ok("PUT", CACHE, ADMIN, json={"mode": "shared"})
    await server.ok("PUT", CACHE, server.keys["acme"], json={"mode": "own"})
    await server.ok("PUT", CACHE, server.keys["acme"], json={"mode": "own"})
    by_key, by_admin = registry.list_audit(limit=2)
    assert (by_admin.seq, by_key.seq) == (before + 1, before + 2)
    assert registry.head().seq == before + 2
    assert (by_admin.actor, by_key.actor) == ("admin", server.keys["acme"].split("_")[1])
    assert {by_admin.action, by_key.action} == {"tenant.feature_cache"}
    assert {by_admin.tenant, by_key.tenant} == {"acme"}
    assert by_key.detail == {"mode": "own", "previous": "shared"}


async def test_a_key_that_only_predicts_sees_it_and_does_not_set_it(server: Server) -> None:
    key = await server.new_key("acme", "predict")
    assert await server.ok("GET", CACHE, key) == {"mode": "off"}
    await server.problem(403, "PUT", CACHE, key, json={"mode": "shared"})
    await server.problem(404, "PUT", OTHERS, server.keys["acme"], json={"mode": "shared"})
    assert (mode(server), mode(server, "other")) == ("off", "off")


@pytest.mark.parametrize(
    "wanted",
    [{}, {"mode": "on"}, {"mode": None}, {"mode": True}, {"mode": "OWN"}, {"mode": "own", "x": 1}],
)
async def test_what_is_no_mode_is_refused(server: Server, wanted: dict[str, Any]) -> None:
    problem = await server.problem(422, "PUT", CACHE, json=wanted)
    assert problem["code"] == "invalid-input"
    assert mode(server) == "off"


async def test_nobodys_is_not_found(server: Server) -> None:
    path = "/v1/tenants/nobody/feature-cache"
    await server.problem(404, "GET", path)
    await server.problem(404, "PUT", path, json={"mode": "own"})
    await server.problem(422, "PUT", "/v1/tenants/No_body/feature-cache", json={"mode": "own"})


async def test_it_outlives_the_server(tmp_path: Path, template: Template) -> None:
    async with serving(tmp_path, template) as server:
        await server.ok("PUT", CACHE, json={"mode": "own"})
    with_home = Template(tmp_path, template.keys)
    async with serving(tmp_path / "again", with_home) as server:
        assert mode(server) == "own"


async def test_a_change_by_another_server_is_followed(server: Server) -> None:
    server.runtime.registry.set_feature_cache("acme", "shared", actor="admin")
    assert mode(server) == "off"
    await server.runtime.follower.catch_up()
    assert mode(server) == "shared"
