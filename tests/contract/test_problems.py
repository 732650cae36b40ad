"""What is answered where something is wrong, on whichever path."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import Message

from adapters.errors import RegistryUnavailable
from service.http import HttpApp
from service.http.routes import ROUTES, Route
from tests.contract.support import (
    ACME,
    INTENTS,
    PREDICT,
    Server,
    check_answer,
    check_problem,
    predict_scope,
)
from tests.contract.test_access import VALUES, path, shown

PATHS = list(dict.fromkeys(route.path for route in ROUTES))
UNKNOWN = [
    "/nothing",
    "/v1",
    "/v1/",
    "/v1/tenants/",
    "/v1/tenants/acme",
    "/v1//tenants",
    "//v1/tenants",
    "/V1/tenants",
    "/v1/tenants/acme/adapters/intents/versions/1/file/",
    "/v1/tenants/acme/adapters/intents/predict/",
    "/docs/",
    "/docs/assets/nothing.js",
    "/docs/assets/%2e%2e/%2e%2e/setup.py",
    "/docs/assets/%00",
    "/%00",
    "/%ff%fe",
    "/" + "x" * 10_000,
]


@pytest.mark.parametrize("where", UNKNOWN)
async def test_an_unknown_path_is_a_problem_document(server: Server, where: str) -> None:
    for method in ("GET", "POST"):
        response = await server.http.request(method, where)
        assert response.status_code in (404, 405)
        check_problem(response)


@pytest.mark.parametrize("where", PATHS)
async def test_a_wrong_method_is_told_all_that_there_are(server: Server, where: str) -> None:
    allowed = {route.method for route in ROUTES if route.path == where}
    expected = allowed | ({"HEAD"} if "GET" in allowed else set())
    url = where.format(tenant="acme", model="acme.intents", **VALUES)
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FOO"} - expected:
        response = await server.call(method, url)
        assert response.status_code == 405
        assert set(response.headers["allow"].split(", ")) == expected


@pytest.mark.parametrize("where", ["/docs", "/openapi.json", "/", "/docs/assets/swagger-ui.css"])
async def test_pages_are_there_to_be_read_alone(server: Server, where: str) -> None:
    assert (await server.http.get(where)).status_code in (200, 307)
    response = await server.http.post(where)
    assert response.status_code == 405
    check_problem(response)
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_the_page_loads_what_is_there(server: Server) -> None:
    response = await server.http.get("/", follow_redirects=True)
    assert response.url.path == "/docs"
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"):
        assert f"docs/assets/{name}" in response.text
        assert (await server.http.get(f"/docs/assets/{name}")).status_code == 200
    assert "docs/start.js" in response.text
    script = await server.http.get("/docs/start.js")
    assert "openapi.json" in script.text
    assert script.headers["content-type"].startswith("text/javascript")


async def test_the_package_of_the_page_is_not_served_beyond_the_page(server: Server) -> None:
    for name in ("oauth2-redirect.html", "swagger-editor.js", "swagger-editor.js.map", "LICENSE"):
        await server.problem(404, "GET", f"/docs/assets/{name}")


async def test_the_page_understands_the_version_of_the_description(server: Server) -> None:
    assert (await server.http.get("/openapi.json")).json()["openapi"] == "3.1.0"
    script = await server.http.get("/docs/assets/swagger-ui-bundle.js")
    assert "isOAS31" in script.text


@pytest.mark.parametrize("route", [each for each in ROUTES if each.method == "GET"], ids=shown)
async def test_head_has_the_status_and_the_headers_of_get(server: Server, route: Route) -> None:
    got = await server.call("GET", path(route))
    head = await server.call("HEAD", path(route))
    assert head.status_code == got.status_code
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers.get("etag") == got.headers.get("etag")


@pytest.mark.parametrize("route", ROUTES, ids=shown)
async def test_a_server_that_is_starting_says_so(server: Server, route: Route) -> None:
    app = HttpApp()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://headstock") as http:
        response = await http.request(route.method, path(route))
    assert response.status_code == 503
    assert "starting" in response.text
    check_answer(server.document, route.method, response)


async def test_a_registry_that_is_away_stops_changes_and_not_predictions(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RegistryUnavailable("the registry's database cannot be used: the disk is full")

    for name in ("list_tenants", "create_key", "publish", "get_release"):
        monkeypatch.setattr(server.runtime.registry, name, fail)
    for method, where, options in (
        ("GET", "/v1/tenants", {}),
        ("POST", f"{ACME}/keys", {"json": {"scopes": ["predict"]}}),
        ("POST", f"{INTENTS}/versions", {"content": server.file(9)}),
        ("GET", f"{INTENTS}/release", {}),
    ):
        problem = await server.problem(503, method, where, **options)
        assert problem["code"] == "registry-unavailable"
    await server.predict("x", key=server.keys["acme"])


async def test_a_change_that_is_committed_is_answered_though_it_cannot_be_followed(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> int:
        raise RegistryUnavailable("the disk failed to read or write")

    with monkeypatch.context() as patch:
        patch.setattr(server.runtime.registry, "head", fail)
        key = await server.new_key("acme", "predict")
        assert "followed later" in caplog.text
    await server.runtime.follower.catch_up()
    await server.predict("x", key=key)


async def test_the_text_of_a_bug_stays_inside(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("/srv/secret/registry.sqlite is in the way")

    monkeypatch.setattr(server.runtime.registry, "list_tenants", fail)
    response = await server.call("GET", "/v1/tenants")
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret" not in response.text
    assert "/srv/secret/registry.sqlite" in caplog.text


@pytest.mark.settings(body_s=0.01)
async def test_a_body_that_never_ends_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.unread._LINGER_S", 0.01)

    async def endless() -> AsyncIterator[bytes]:
        yield b'{"inputs": ['
        await asyncio.Event().wait()

    await server.problem(408, "POST", PREDICT, content=endless())
    await server.predict("x")


async def test_a_client_that_leaves_amid_its_body_is_no_failure_of_the_server(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    scope = predict_scope(server)
    app = HttpApp()
    app.runtime = server.runtime
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"inputs"', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(_: object) -> None:
        pass

    route = {"method": "POST", "route": "/v1/tenants/{tenant}/adapters/{adapter}/predict"}
    await app(scope, receive, send)
    assert messages == []
    assert server.metric("requests_total", status="500", **route) == 0
    assert server.metric("requests_total", status="499", **route) == 1
    assert "failed inside the server" not in caplog.text


WITH_JSON = [route for route in ROUTES if isinstance(route.body, type)]


@pytest.mark.parametrize("route", WITH_JSON, ids=shown)
async def test_a_body_is_left_out_where_the_description_allows_it(
    server: Server, route: Route
) -> None:
    described = server.document["paths"][route.path][route.method.lower()]["requestBody"]
    response = await server.call(route.method, path(route))
    assert (response.status_code == 400) == described["required"]
    assert response.status_code < 500
