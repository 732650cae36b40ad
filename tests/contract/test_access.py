"""Made from the route table: a route that is added tomorrow is tested tomorrow."""

import pytest

from service.http.routes import ROUTES, Route
from tests.contract.support import ADMIN, Server

VALUES = {"adapter": "intents", "version": "1", "key": "k" * 12, "id": "acme.intents"}
GUARDED = [route for route in ROUTES if route.scope not in (None, "metrics")]
OF_TENANTS = [route for route in GUARDED if route.of_tenant]
SCOPED = [route for route in GUARDED if route.scope != "any"]
NEEDS_NO_KEY = {("GET", "/metrics"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready")}


def shown(route: Route) -> str:
    return f"{route.method} {route.path}"


def path(route: Route, tenant: str = "acme") -> str:
    return route.path.format(tenant=tenant, model=f"{tenant}.intents", **VALUES)


def lacking(scope: str) -> str:
    """A scope that does not include `scope`."""
    return "publish" if scope == "predict" else "predict"


def test_no_route_is_open_by_oversight() -> None:
    opened = {(route.method, route.path) for route in ROUTES if route not in GUARDED}
    assert opened == NEEDS_NO_KEY


@pytest.mark.parametrize("route", GUARDED, ids=shown)
async def test_without_a_key_nothing_is_answered(server: Server, route: Route) -> None:
    await server.problem(401, route.method, path(route), key=None)
    await server.problem(401, route.method, path(route, "nobody"), key=None)
    if route.method == "GET":
        assert (await server.call("HEAD", path(route), key=None)).status_code == 401


@pytest.mark.parametrize("route", GUARDED, ids=shown)
async def test_with_a_wrong_key_nothing_is_answered(server: Server, route: Route) -> None:
    good = server.keys["acme"]
    for wrong in (good[:-1] + ("0" if good[-1] != "0" else "1"), "hs_x_y", "x" * 40):
        await server.problem(401, route.method, path(route), key=wrong)
    headers = {"Authorization": f"Basic {good}"}
    await server.problem(401, route.method, path(route), key=None, headers=headers)


@pytest.mark.parametrize("route", OF_TENANTS, ids=shown)
async def test_another_tenants_things_are_as_if_they_were_not(server: Server, route: Route) -> None:
    key = server.keys["other"]
    texts = []
    for tenant in ("acme", "nobody"):
        response = await server.call(route.method, path(route, tenant), key)
        assert response.status_code == 404
        texts.append(response.text.replace(tenant, ""))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("route", SCOPED, ids=shown)
async def test_a_key_that_lacks_the_scope_is_told_so(server: Server, route: Route) -> None:
    assert route.scope is not None
    key = await server.new_key("acme", lacking(route.scope))
    problem = await server.problem(403, route.method, path(route), key)
    assert repr(route.scope) in str(problem.get("error", problem.get("detail")))


@pytest.mark.parametrize("route", GUARDED, ids=shown)
async def test_a_key_with_the_scope_gets_past_the_door(server: Server, route: Route) -> None:
    if route.scope != "admin":
        scope = "predict" if route.scope == "any" else str(route.scope)
        key = await server.new_key("acme", scope)
        assert (await server.call(route.method, path(route), key)).status_code not in (401, 403)
    assert (await server.call(route.method, path(route))).status_code not in (401, 403)


@pytest.mark.parametrize("route", [route for route in GUARDED if route.body], ids=shown)
async def test_the_key_is_looked_at_before_the_body(server: Server, route: Route) -> None:
    await server.problem(401, route.method, path(route), key=None, content=b"{" * 100_000)


async def test_of_several_keys_none_counts(server: Server) -> None:
    for keys in ((ADMIN, ADMIN), ("wrong", ADMIN), (ADMIN, "wrong")):
        headers = [("Authorization", f"Bearer {key}") for key in keys]
        response = await server.http.get("/v1/tenants", headers=headers)
        assert response.status_code == 401
        assert "2 headers Authorization" in response.json()["detail"]


@pytest.mark.parametrize("space", ["\xa0", "\x85", "\x1f", "\x0b", "\x0c"])
async def test_only_spaces_and_tabs_around_a_key_are_none_of_it(server: Server, space: str) -> None:
    for text in (f"Bearer {ADMIN}{space}", f"Bearer {space}{ADMIN}", f"{space}Bearer {ADMIN}"):
        headers = {b"Authorization": text.encode("latin-1")}
        assert (await server.http.get("/v1/tenants", headers=headers)).status_code == 401
    headers = {b"Authorization": f"Bearer  {ADMIN}\t ".encode("latin-1")}
    assert (await server.http.get("/v1/tenants", headers=headers)).status_code == 200


async def test_a_time_is_given_once_and_white_space_around_it_is_none_of_it(
    server: Server,
) -> None:
    arabic = "\u0665".encode()  # a digit, as `\\d` and `isdecimal` have it
    for given, status in (
        ([b"5\t "], 200),
        ([b"5", b"5"], 422),
        ([b"5\xa0"], 422),
        ([arabic], 422),
    ):
        headers = [(b"Authorization", f"Bearer {ADMIN}".encode())]
        headers += [(b"X-Request-Timeout", text) for text in given]
        assert (await server.http.get("/v1/tenants", headers=headers)).status_code == status
