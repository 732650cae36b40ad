"""Pages of other origins: what a browser is allowed, and what it could be made to do."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.attacks.conftest import RecordAttack
from tests.integration.server import ADMIN_KEY, Server, Tenant, running, upload
from tests.support import make_adapter_file

ORIGIN = "https://app.example"
# What is not this origin, however near it looks.
STRANGERS = (
    *("null", "https://app.example.", "https://app.example:443", "https://app.example:80"),
    *("http://app.example", "https://APP.example", "HTTPS://app.example", "https://app.example/"),
    *("https://app.example.evil.org", "https://evil.org?https://app.example", "app.example"),
    *("https://evilapp.example", "https://x.app.example", "https://user@app.example", "*", ""),
    *("https://app.example@evil.org", "https://app.example,https://evil.org", "https://app.exampl"),
    *("https://app.example https://evil.org", "file://"),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    with running(tmp_path_factory.mktemp("served"), cors_origins=ORIGIN) as served:
        yield served


@pytest.fixture(scope="module")
def server(served: tuple[Server, str]) -> Server:
    return served[0]


@pytest.fixture(scope="module")
def tenant(served: tuple[Server, str]) -> Tenant:
    server, digest = served
    tenant = server.add_tenant("acme")
    with server.http() as http:
        upload(http, "acme", "intents", make_adapter_file(backbone=digest))
        quota = {"requests_per_minute": 3}
        http.put("/v1/tenants/acme/quota", json=quota).raise_for_status()
    return tenant


def granted(response: httpx.Response) -> str | None:
    assert "access-control-allow-credentials" not in response.headers
    assert "access-control-allow-private-network" not in response.headers
    found: str | None = response.headers.get("access-control-allow-origin")
    return found


def preflight(http: httpx.Client, origin: str, **asked: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
        **asked,
    }
    return http.options("/v1/tenants/acme/adapters/intents/predict", headers=headers)


def test_origins_that_only_look_allowed_are_not(
    server: Server, record_attack: RecordAttack
) -> None:
    with server.http(None) as http:
        asked = preflight(http, ORIGIN)
        assert (asked.status_code, granted(asked)) == (200, ORIGIN)
        answers = [preflight(http, origin) for origin in STRANGERS]
        answers += [http.get("/v2/health/live", headers={"Origin": each}) for each in STRANGERS]
        cookie = {"Cookie": "session=1", "Origin": "null"}
        answers.append(http.get("/v2/health/live", headers=cookie))
        private = {"Access-Control-Request-Private-Network": "true"}
        network = preflight(http, ORIGIN, **private)
    record_attack(attempts=len(answers) + 2)
    for answer in answers:
        assert granted(answer) is None
        assert "origin" in answer.headers["vary"].lower()
    assert granted(network) == ORIGIN
    assert network.status_code == 400


def test_a_page_can_read_why_it_was_refused(
    server: Server, tenant: Tenant, record_attack: RecordAttack
) -> None:
    path, seen = "/v1/tenants/acme/adapters/intents/predict", set[int]()
    key, origin = {"Authorization": f"Bearer {tenant.key}"}, {"Origin": ORIGIN}
    with server.http(None) as http:
        answers = [
            http.post(path, headers=origin, json={"inputs": ["x"]}),
            http.post(path, headers={**origin, **key}, content=b"{"),
            http.post(path, headers={**origin, **key}, content=b" " * (9 * 2**20)),
            http.post(path, headers={**origin, **key, "X-Request-Timeout": "x"}, json={}),
            http.get("/nowhere", headers=origin),
            http.delete(path, headers=origin),
            *(http.post(path, headers={**origin, **key}, json={"inputs": ["x"]}) for _ in range(8)),
        ]
    record_attack(attempts=len(answers))
    for answer in answers:
        seen.add(answer.status_code)
        assert granted(answer) == ORIGIN
        assert "origin" in answer.headers["vary"].lower()
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert seen >= {200, 400, 401, 404, 405, 413, 422, 429}


def test_no_answer_is_read_as_another_type_framed_or_kept(
    server: Server, tenant: Tenant, record_attack: RecordAttack
) -> None:
    with server.http() as http:
        pages = [http.get(path) for path in ("/", "/docs", "/docs/start.js", "/openapi.json", "/x")]
        pages.append(http.get("/docs/assets/swagger-ui.css"))
        named = http.post(f"/v1/tenants/{tenant.name}/keys/{tenant.key_id}/rotate", json={})
        answers = [
            http.get("/v1/tenants"),
            http.get("/v1/tenants", headers={"Authorization": "Bearer wrong"}),
            http.post("/v1/tenants", content=b"<script>alert(1)</script>"),
            http.patch("/v1/tenants"),
            http.get("/metrics"),
            http.get("/livez"),
            http.get("/readyz"),
            http.get("/schema.json"),
            preflight(http, ORIGIN),
            preflight(http, "null"),
            named,
        ]
    record_attack(attempts=len(pages) + len(answers))
    for answer in (*pages, *answers):
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], answer.url
        assert "set-cookie" not in answer.headers
    for answer in answers:
        assert answer.headers.get_list("cache-control") == ["no-store"], answer.url
        assert "html" not in answer.headers.get("content-type", "")
    assert named.status_code == 201
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(policy.split("; "))
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"<script(?! src=)|<style|\son\w+=|\sstyle=", pages[1].text)


def test_forms_of_other_pages_do_nothing(server: Server, record_attack: RecordAttack) -> None:
    """A form sends cookies and bodies of three types; a key only scripts of an allowed origin."""
    types = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")
    bodies = (b'{"name": "evil"}', b'{"name":"evil","x":"="}', b"name=evil")
    with server.http(None) as http:
        answers = [
            http.post(
                "/v1/tenants",
                content=content,
                headers={
                    "Origin": "https://evil.org",
                    "Content-Type": kind,
                    "Cookie": f"Authorization=Bearer {ADMIN_KEY}; key={ADMIN_KEY}",
                },
                params={"authorization": f"Bearer {ADMIN_KEY}", "key": ADMIN_KEY},
            )
            for kind in types
            for content in bodies
        ]
    record_attack(attempts=len(answers))
    assert {answer.status_code for answer in answers} == {401}
    with server.http() as http:
        assert "evil" not in http.get("/v1/tenants").text
