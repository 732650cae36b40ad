"""The path under which a proxy shows the server: by the setting, or by what the proxy says."""

import httpx
import pytest
from starlette.types import Scope

from service.http import HttpApp
from service.http.prefix import public_prefix, without_prefix
from service.root_path import read_prefix

LONG = "/" + "a" * 255
PLAIN = {"/models": "/models", "/a/b-c_d.e~f/": "/a/b-c_d.e~f", "": "", "/": "", LONG: LONG}
ODD = [
    *("models", "//evil.example", "/a//b", "/..", "/../a", "/a/./b", "/.", "/a b", "/a?b", "/a#b"),
    *("/%2e%2e", "https://evil.example/a", '/"><script>', "/a\r\nSet-Cookie: b", "/ä", LONG + "a"),
    *("/a, /b", "/a;b", "\\\\evil", "/\\evil", "/a\n", "/a\x00"),
]


@pytest.mark.parametrize("text", PLAIN)
def test_a_plain_path_is_a_prefix(text: str) -> None:
    assert read_prefix(text) == PLAIN[text]


@pytest.mark.parametrize("text", [each for each in ODD if each.strip() == each])
def test_nothing_else_is(text: str) -> None:
    assert read_prefix(text) is None


def scope(path: str = "/", *prefixes: str) -> Scope:
    headers = [(b"x-forwarded-prefix", each.encode("latin-1")) for each in prefixes]
    return {"type": "http", "path": path, "raw_path": path.encode(), "headers": headers}


@pytest.mark.parametrize(
    ("setting", "sent", "expected"),
    [
        ("", [], ""),
        ("/set", [], "/set"),
        ("", ["/sent/"], "/sent"),
        ("/set", ["/sent"], "/set"),  # a client could have sent it
        ("", ["//evil.example"], ""),
        ("", ["/one", "/two"], ""),
    ],
)
def test_the_setting_comes_before_what_is_sent(
    setting: str, sent: list[str], expected: str
) -> None:
    assert public_prefix(scope("/", *sent), setting) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/models/v1/tenants", "/v1/tenants"),
        ("/v1/tenants", "/v1/tenants"),  # the proxy has taken it off
        ("/models", "/"),
        ("/models/", "/"),
        ("/modelsv1", "/modelsv1"),
        ("/models//v1", "//v1"),
        ("/%6Dodels/v1", "/%6Dodels/v1"),  # paths are read as they were sent
        ("/models/models/v1", "/models/v1"),
    ],
)
def test_what_the_proxy_leaves_on_is_taken_off(path: str, expected: str) -> None:
    found = without_prefix(scope(path), "/models")
    assert (found["raw_path"], found["path"]) == (expected.encode(), expected)


def test_without_the_setting_nothing_is_taken_off() -> None:
    given = scope("/models/v1")
    assert without_prefix(given, "") is given


async def pages(setting: str, *sent: str) -> tuple[str, str]:
    """The server's place in the API's document, and where the root leads."""
    headers = [(b"X-Forwarded-Prefix", each.encode("latin-1")) for each in sent]
    transport = httpx.ASGITransport(HttpApp(root_path=setting))
    async with httpx.AsyncClient(transport=transport, base_url="http://proxied") as http:
        document = await http.get("/openapi.json", headers=headers)
        root = await http.get("/", headers=headers)
        page = await http.get("/docs", headers=headers)
    assert "X-Forwarded-Prefix" in document.headers["Vary"]
    assert 'href="docs/assets/' in page.text
    (server,) = document.json()["servers"]
    return server["url"], root.headers["Location"]


@pytest.mark.parametrize(
    ("setting", "sent", "expected"),
    [
        ("", [], (".", "docs")),  # relative: right behind whatever prefix is taken off
        ("/set", [], ("/set", "/set/docs")),
        ("", ["/sent"], ("/sent", "/sent/docs")),
        ("/set", ["/sent"], ("/set", "/set/docs")),
    ],
)
async def test_pages_name_the_prefix(
    setting: str, sent: list[str], expected: tuple[str, str]
) -> None:
    assert await pages(setting, *sent) == expected


@pytest.mark.parametrize("text", [each for each in ODD if each.isprintable()])
async def test_a_page_repeats_no_odd_prefix(text: str) -> None:
    assert await pages("", text) == (".", "docs")
