"""Hostile requests: each is refused with a clear problem document, and nothing is lost by it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.support import (
    ACME,
    INTENTS,
    PREDICT,
    Server,
    Template,
    chunks,
    make_template,
    serving,
)

LIMIT = 2 * 2**20  # of a JSON body, here
GOOD = b'{"inputs": ["hello"], "top_k": 1}'


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def server(tmp_path: Path, template: Template) -> AsyncIterator[Server]:
    """With a look before and after: whatever happens, the state is the same and it still works."""
    async with serving(tmp_path, template, max_body_bytes=LIMIT) as server:
        before, answer = await server.state(), await server.predict("hello")
        yield server
        assert await server.state() == before
        assert await server.predict("hello", key=server.keys["acme"]) == answer


def top_k(value: str) -> bytes:
    return b'{"inputs": ["hello"], "top_k": %s}' % value.encode()


# For each body of a prediction: what it is, its status, and what the detail says.
BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "not JSON"),
    "a space": (b" ", 400, "not JSON"),
    "no JSON": (b"inputs=hello", 400, "not JSON"),
    "half a body": (GOOD[:-1], 400, "not JSON"),
    "two bodies": (GOOD + GOOD, 400, "not JSON"),
    "single quotes": (b"{'inputs': ['hello']}", 400, "not JSON"),
    "NaN": (top_k("NaN"), 400, "NaN is not JSON"),
    "Infinity": (top_k("-Infinity"), 400, "-Infinity is not JSON"),
    "a doubled key": (b'{"inputs": ["a"], "inputs": ["b"]}', 400, "'inputs' stands twice"),
    "a doubled key deep inside": (
        b'{"inputs": [{"a": 1, "a": 2}]}',
        400,
        "'a' stands twice",
    ),
    "half a surrogate pair": (b'{"inputs": ["\\ud800"]}', 400, "Invalid JSON"),
    "the other half": (b'{"inputs": ["\\udc00 x"]}', 400, "Invalid JSON"),
    "invalid UTF-8": (b'{"inputs": ["\xff\xfe"]}', 400, "not JSON"),
    "an overlong slash": (b'{"inputs": ["\xc0\xaf"]}', 400, "not JSON"),
    "a surrogate in UTF-8": (b'{"inputs": ["\xed\xa0\x80"]}', 400, "not JSON"),
    "UTF-16": (GOOD.decode().encode("utf-16"), 400, "not JSON"),
    "UTF-32": (GOOD.decode().encode("utf-32"), 400, "not JSON"),
    "two byte order marks": (b"\xef\xbb\xbf" * 2 + GOOD, 400, "not JSON"),
    "a line end in a text": (b'{"inputs": ["a\nb"]}', 400, "not JSON"),
    "deep nesting": (b"[" * 100_000, 400, "nested too deeply"),
    "nesting that ends": (b'{"inputs":' + b"[" * 500 + b"]" * 500 + b"}", 400, "recursion"),
    "deep objects": (b'{"inputs":' * 50_000, 400, "nested too deeply"),
    "a number of 5,000 digits": (top_k("9" * 5000), 400, "not JSON"),
    "null": (b"null", 422, "body"),
    "a list": (b'["hello"]', 422, "body"),
    "a text": (b'"hello"', 422, "body"),
    "an empty object": (b"{}", 422, "inputs"),
    "inputs null": (b'{"inputs": null}', 422, "inputs"),
    "inputs a text": (b'{"inputs": "hello"}', 422, "inputs"),
    "inputs an object": (b'{"inputs": {"0": "hello"}}', 422, "inputs"),
    "inputs a number": (b'{"inputs": 5}', 422, "inputs"),
    "no inputs": (b'{"inputs": []}', 422, "inputs"),
    "an input that is a number": (b'{"inputs": ["a", 1]}', 422, "inputs/1"),
    "an input that is null": (b'{"inputs": [null]}', 422, "inputs/0"),
    "an input that is true": (b'{"inputs": [true]}', 422, "inputs/0"),
    "an input that is a list": (b'{"inputs": [["a"]]}', 422, "inputs/0"),
    "an input that is an object": (b'{"inputs": [{"text": "a"}]}', 422, "inputs/0"),
    "top_k 0": (top_k("0"), 422, "top_k"),
    "top_k -1": (top_k("-1"), 422, "top_k"),
    "top_k 1001": (top_k("1001"), 422, "top_k"),
    "top_k huge": (top_k("1" + "0" * 300), 422, "top_k"),
    "top_k 1.5": (top_k("1.5"), 422, "top_k"),
    "top_k 1e400": (top_k("1e400"), 422, "top_k"),
    "top_k a text": (top_k('"3"'), 422, "top_k"),
    "top_k true": (top_k("true"), 422, "top_k"),
    "top_k null": (top_k("null"), 422, "top_k"),
    "top_k a list": (top_k("[1]"), 422, "top_k"),
    "an unknown field": (b'{"inputs": ["a"], "model": "x"}', 422, "model"),
    "a field in capitals": (b'{"Inputs": ["a"]}', 422, "Inputs"),
    "a field that would forge a log line": (
        b'{"inputs": ["a"], "x\\r\\n500 internal": 1}',
        422,
        "x\\r\\n500 internal",
    ),
    "a field with a long name": (b'{"inputs": ["a"], "%s": 1}' % (b"x" * 100_000), 422, "xxx"),
    "a thousand unknown fields": (
        json.dumps({f"f{n}": n for n in range(1000)}).encode(),
        422,
        "1001 places",
    ),
    "too many inputs": (json.dumps({"inputs": ["x"] * 2049}).encode(), 413, "2049 inputs"),
    "a text of a megabyte": (b'{"inputs": ["a", "%s"]}' % (b"x" * 2**20), 413, "input 1 has"),
    "a body over the limit": (b'{"inputs": ["%s"]}' % (b"x" * LIMIT), 413, str(LIMIT)),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_hostile_body_is_refused_with_its_reason(server: Server, name: str) -> None:
    content, status, reason = BODIES[name]
    for key in (server.keys["acme"], None):
        expected = 401 if key is None else status
        problem = await server.problem(expected, "POST", PREDICT, key, content=content)
        if key is not None:
            assert reason in problem["detail"]


async def test_what_is_only_unusual_is_answered(server: Server) -> None:
    for text in ("", " ", "\0", "\u202e", "🙂" * 1000, "\r\n", "<script>", "x" * 100_000):
        assert len((await server.predict(text))["predictions"]) == 1
    pair = b'{"inputs": ["\\ud83d\\ude42"]}'
    assert await server.ok("POST", PREDICT, content=pair) == await server.predict("🙂")


@pytest.mark.parametrize("size", [LIMIT + 1, 3 * LIMIT])
async def test_a_body_over_the_limit_is_refused_with_and_without_its_length(
    server: Server, size: int
) -> None:
    content = GOOD + b" " * (size - len(GOOD))
    await server.problem(413, "POST", PREDICT, content=content)
    await server.problem(413, "POST", PREDICT, content=chunks(content, 2**16))


async def test_a_body_at_the_limit_is_taken_with_and_without_its_length(server: Server) -> None:
    content = GOOD + b" " * (LIMIT - len(GOOD))
    await server.ok("POST", PREDICT, content=content)
    await server.ok("POST", PREDICT, content=chunks(content, 2**16))


async def test_a_body_without_end_is_refused_at_the_limit(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.unread._LINGER_S", 0.01)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 2**16
            await asyncio.sleep(0)

    await server.problem(413, "POST", PREDICT, content=endless())


@pytest.mark.parametrize("length", ["5", "-1", "1e3", "abc", "²", ""])
async def test_a_length_that_lies_decides_nothing(server: Server, length: str) -> None:
    headers = {"Content-Length": length.encode()}
    await server.problem(
        413, "POST", PREDICT, content=chunks(b" " * (LIMIT + 1), 2**16), headers=headers
    )


async def test_an_announced_body_over_the_limit_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.unread._LINGER_S", 0.01)

    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    headers = {"Content-Length": str(10**15)}
    await server.problem(413, "POST", PREDICT, content=never(), headers=headers)


MANY_ELEMENTS = "the body's JSON has more than 33792 values and keys; "
# To find and list all the faults of the first one took 4 seconds and 900 MB.
MANY: dict[str, tuple[bytes, int, str]] = {
    "numbers": (b'{"inputs":[' + b"1," * 900_000 + b"1]}", 413, MANY_ELEMENTS),
    "lists": (b'{"inputs":[' + b"[]," * 600_000 + b"[]]}", 413, MANY_ELEMENTS),
    "texts": (b'{"inputs":[' + b'"",' * 600_000 + b'""]}', 413, "600001 inputs; "),
    "fields": (
        b"{" + b",".join(b'"%x":1' % number for number in range(180_000)) + b"}",
        413,
        MANY_ELEMENTS,
    ),
}


@pytest.mark.parametrize("name", MANY)
async def test_a_million_faults_are_neither_sought_nor_listed(server: Server, name: str) -> None:
    content, status, reason = MANY[name]
    assert len(content) <= LIMIT
    problem = await server.problem(status, "POST", PREDICT, content=content)
    assert problem["detail"].startswith(reason)
    assert "inputs/1" not in problem["detail"]


# For each name: how a path says it, and whether that path is one of ours at all.
NAMES: dict[str, str] = {
    "../other": "..%2Fother",
    "../../etc/passwd": "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..": "%2e%2e",
    ".": "%2e",
    "a/b": "a%2Fb",
    "\\..\\acme": "%5C..%5Cacme",
    "\u0430cme": "%D0%B0cme",  # a Cyrillic letter that looks like an a
    "acme\u200b": "acme%E2%80%8B",
    "\uff41cme": "%EF%BD%81cme",
    "Acme": "Acme",
    "ac_me": "ac_me",
    "-acme": "-acme",
    "acme-": "acme-",
    "acme.": "acme.",
    " acme": "%20acme",
    "acme\n": "acme%0A",
    "acme\0": "acme%00",
    "acme%": "acme%25",
    "acme?x": "acme%3Fx",
    "a" * 64: "a" * 64,
    "a" * 999: "a" * 999,
    "'; DROP TABLE tenants; --": "'%3B%20DROP%20TABLE%20tenants%3B%20--",
    "\ufffd": "%FF",
}


@pytest.mark.parametrize("name", NAMES)
async def test_a_hostile_name_is_no_tenant_and_no_adapter(server: Server, name: str) -> None:
    problem = await server.problem(422, "POST", "/v1/tenants", json={"name": name})
    assert problem["code"] == "invalid-name"
    encoded = NAMES[name]
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"/v1/tenants/{encoded}/adapters", {}),
        ("POST", f"/v1/tenants/{encoded}/keys", {"json": {"scopes": ["predict"]}}),
        ("POST", f"{ACME}/adapters/{encoded}/versions", {"content": server.file(9)}),
        ("GET", f"{ACME}/adapters/{encoded}/release", {}),
    ]
    for method, path, options in asked:
        problem = await server.problem(422, method, path, **options)
        assert problem["code"] == "invalid-name"
    path = f"/v1/tenants/{encoded}/adapters/x/versions"
    await server.problem(401, "GET", path, "wrong")
    wanted = {"inputs": ["x"]}
    path = f"/v1/tenants/{encoded}/adapters/intents/predict"
    await server.problem(422, "POST", path, server.keys["acme"], json=wanted)


@pytest.mark.parametrize(
    "path",
    [
        "/%6Detrics",
        "/%2Fmetrics",
        "/v1%2Ftenants",
        "/%76%31/tenants",
        "/v2%2Fmodels",
        "/docs%2F",
        "/d%6Fcs",
        "/%6Fpenapi.json",
        "/docs/assets%2Fswagger-ui.css",
        "/v1/tenants%3Flimit=1",
    ],
)
async def test_a_path_has_one_spelling(server: Server, path: str) -> None:
    """A proxy's rule for a path must not be passed by another spelling of it."""
    problem = await server.problem(404, "GET", path)
    assert problem["code"] == "not-found"


async def test_an_empty_name_is_no_name(server: Server) -> None:
    await server.problem(422, "POST", "/v1/tenants", json={"name": ""})
    response = await server.http.get("/v1/tenants//adapters")
    assert response.status_code == 404


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b'{"scopes": []}',
        b'{"scopes": ["admin"]}',
        b'{"scopes": ["predict", "admin"]}',
        b'{"scopes": ["predict", "publish", "predict"]}',
        b'{"scopes": "predict"}',
        b'{"scopes": [1]}',
        b'{"scopes": null}',
        b'{"scopes": ["PREDICT"]}',
        b'{"scopes": ["predict"], "tenant": "other"}',
    ],
)
async def test_a_hostile_wish_for_a_key_makes_none(server: Server, content: bytes) -> None:
    await server.problem(422, "POST", f"{ACME}/keys", content=content)


@pytest.mark.parametrize(
    "content", [b'{"stable": "1"}', b'{"stable": true}', b'{"stable": 1.0}', b'{"stable": null}']
)
async def test_a_hostile_release_moves_nothing(server: Server, content: bytes) -> None:
    await server.problem(422, "PUT", f"{INTENTS}/release", content=content)
    await server.problem(422, "PUT", f"{INTENTS}/release", json={"stable": 1, "percent": 5})


async def test_a_key_in_another_place_is_no_key(server: Server) -> None:
    key = server.keys["acme"]
    await server.problem(401, "POST", PREDICT, None, content=GOOD, params={"key": key})
    for header in ("X-Api-Key", "Cookie", "Proxy-Authorization"):
        headers = {header: f"Bearer {key}"}
        await server.problem(401, "POST", PREDICT, None, content=GOOD, headers=headers)


async def test_headers_that_name_another_way_change_nothing(server: Server) -> None:
    headers = {
        "X-HTTP-Method-Override": "DELETE",
        "X-Forwarded-For": "127.0.0.1",
        "X-Original-URL": "/v1/tenants",
        "X-Tenant": "other",
        "Host": "evil.example",
    }
    answer = await server.ok("POST", PREDICT, server.keys["acme"], content=GOOD, headers=headers)
    assert answer["adapter"]["tenant"] == "acme"
    response = await server.http.get("/v1/tenants/", headers=headers)
    assert (response.status_code, "evil" in str(response.headers)) == (404, False)


LONG = 'é"\\' * 200_000
QUOTED: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/tenants", {"name": LONG}),
    ("POST", f"{ACME}/keys", {"scopes": [LONG]}),
    ("POST", f"{ACME}/keys", {"scopes": ["predict"], LONG: 1}),
    ("PUT", f"{ACME}/feature-cache", {"mode": LONG}),
    ("PUT", f"{INTENTS}/release", {"stable": LONG}),
    ("POST", PREDICT, {"inputs": ["a"], "top_k": LONG}),
    ("POST", f"{ACME}/predict", {"inputs": ["a"], "adapters": [LONG]}),
    ("POST", f"{ACME}/predict", {"inputs": ["a"], "adapters": [LONG, LONG]}),
    ("POST", "/predict", {"inputs": ["a"], "tenant": LONG, "adapter": "intents"}),
    ("POST", "/predict", {"inputs": ["a"], "tenant": "acme", "adapter": LONG}),
    ("POST", "/v1/embeddings", {"input": "a", "model": LONG}),
    ("POST", "/v1/embeddings", {"input": "a", "model": "tiny", "encoding_format": LONG}),
    *(
        ("POST", "/v2/models/acme.intents/infer", {"inputs": [tensor], "outputs": outputs})
        for tensor, outputs in (
            ({"name": LONG, "shape": [9], "datatype": "BYTES", "data": ["a"]}, []),
            ({"name": "text", "shape": [1], "datatype": LONG, "data": ["a"]}, []),
            (
                {
                    "name": "text",
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": LONG},
                },
                [],
            ),
            (
                {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]},
                [{"name": LONG}],
            ),
        )
    ),
]


@pytest.mark.parametrize("number", range(len(QUOTED)))
async def test_a_refusal_does_not_repeat_what_is_long(server: Server, number: int) -> None:
    method, path, content = QUOTED[number]
    refused = await server.call(method, path, json=content)
    assert 400 <= refused.status_code < 500
    assert len(refused.content) < 2000
