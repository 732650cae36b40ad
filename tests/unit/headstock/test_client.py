"""The clients without a server: what is asked, what is sent again, what strangers' answers are."""

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest

from headstock.client import AsyncClient, Client, RequestFailed, Retry, answers, calls
from headstock.client.errors import refusal
from headstock.commands.common import connect
from service import schemas
from service.http.routes import ROUTES

Reply = httpx.Response | httpx.HTTPError
QUICK = Retry(attempts=3, first_wait_s=0, longest_wait_s=0)


def reply(status: int, code: str = "", after_s: int | None = None) -> httpx.Response:
    """An answer of a server; with no code one of a proxy."""
    headers = {} if after_s is None else {"Retry-After": str(after_s)}
    content = {"detail": "why", "code": code} if code else {}
    return httpx.Response(status, json=content, headers=headers)


class Replies:
    """A transport that gives these replies in turn, and keeps what it was asked."""

    def __init__(self, *replies: Reply) -> None:
        self._replies: Iterator[Reply] = iter(replies)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        found = next(self._replies)
        if isinstance(found, httpx.HTTPError):
            raise found
        # A copy: an answer belongs to the one client that read it.
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)

    async def later(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return self(request)


def ask(replies: Replies, retry: Retry, what: str, *arguments: Any) -> Any:
    """Ask with a client of each kind, which must do the same; what was answered."""
    own = list(replies._replies)
    with Client("http://a", "key", retry) as client:
        replies._replies = iter(own)
        client._http._transport = httpx.MockTransport(replies)
        first = outcome(lambda: getattr(client, what)(*arguments))
    asked, replies.asked = replies.asked, []

    async def run() -> Any:
        async with AsyncClient("http://a", "key", retry) as client:
            replies._replies = iter(own)
            client._http._transport = httpx.MockTransport(replies.later)
            return await getattr(client, what)(*arguments)

    second = outcome(lambda: asyncio.run(run()))
    assert [str(each.url) for each in asked] == [str(each.url) for each in replies.asked]
    assert [each.content for each in asked] == [each.content for each in replies.asked]
    if isinstance(first, RequestFailed):
        assert isinstance(second, RequestFailed)
        assert (str(first), first.code) == (str(second), second.code)
        raise first
    assert first == second
    return first


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except RequestFailed as error:
        return error


REFUSED = httpx.ConnectError("refused")
LOST = httpx.ReadError("reset")


@pytest.mark.parametrize(
    ("what", "arguments", "replies", "attempts"),
    [
        ("predict", ("a", "b", ["x"]), [reply(429, "tenant-overloaded", 0)], 2),
        ("predict", ("a", "b", ["x"]), [reply(503, "overloaded", 0), LOST], 3),
        ("predict", ("a", "b", ["x"]), [reply(502), reply(504)], 3),
        ("create_tenant", ("a",), [reply(503, "registry-unavailable", 0)], 2),
        ("create_tenant", ("a",), [REFUSED, REFUSED], 3),
        ("list_tenants", (), [reply(503, "timed-out", 0)], 2),
        ("list_keys", ("a",), [LOST], 2),
    ],
)
def test_what_may_be_sent_again_is(
    what: str, arguments: Sequence[Any], replies: list[Reply], attempts: int
) -> None:
    asked = Replies(*replies, httpx.Response(200, json={"done": True}))
    assert ask(asked, QUICK, what, *arguments) == {"done": True}
    assert len(asked.asked) == attempts


@pytest.mark.parametrize(
    ("what", "arguments", "last"),
    [
        ("create_tenant", ("a",), LOST),
        ("create_key", ("a", ["predict"]), LOST),
        ("create_key", ("a", ["predict"]), reply(503, "timed-out", 0)),
        ("create_tenant", ("a",), reply(502)),
        ("rollback", ("a", "b"), LOST),
        ("set_quota", ("a", {}), LOST),
        ("set_feature_cache", ("a", "own"), LOST),
        ("set_release", ("a", "b", 2), LOST),
        ("predict", ("a", "b", ["x"]), reply(422, "invalid-input")),
        ("predict", ("a", "b", ["x"]), reply(500, "internal")),
        ("predict", ("a", "b", ["x"]), reply(401, "unauthenticated")),
    ],
)
def test_what_may_not_be_sent_again_is_not(
    what: str, arguments: Sequence[Any], last: Reply
) -> None:
    asked = Replies(last)
    with pytest.raises(RequestFailed):
        ask(asked, QUICK, what, *arguments)
    assert len(asked.asked) == 1


def test_an_answer_may_be_empty() -> None:
    asked = Replies(LOST, httpx.Response(204))
    assert ask(asked, QUICK, "revoke_key", "a", "k") is None


def test_an_upload_is_sent_again_unless_it_lets_the_version_answer(tmp_path: Path) -> None:
    file = tmp_path / "adapter"
    file.write_bytes(bytes(range(256)) * 3000)
    asked = Replies(LOST, httpx.Response(200, json={}))
    ask(asked, QUICK, "push", file, "a", "b", False)
    assert [each.content for each in asked.asked] == [file.read_bytes()] * 2
    assert asked.asked[0].headers["content-length"] == str(file.stat().st_size)
    assert "transfer-encoding" not in asked.asked[0].headers
    asked = Replies(LOST)
    with pytest.raises(RequestFailed):
        ask(asked, QUICK, "push", file, "a", "b", True)


def test_an_upload_tells_how_far_it_is(tmp_path: Path) -> None:
    file, told = tmp_path / "adapter", list[tuple[int, int]]()
    file.write_bytes(bytes(600_000))
    asked = Replies(httpx.Response(200, json={}))
    ask(asked, QUICK, "push", file, "a", "b", False, lambda *each: told.append(each))
    own = [(262_144, 600_000), (524_288, 600_000), (600_000, 600_000)]
    assert told == own * 2


def test_an_end_of_patience_is_an_end() -> None:
    failed = RequestFailed("full", "overloaded", 503, retry_after_s=4)
    retry = Retry(attempts=10, patience_s=10)
    assert retry.wait_s(failed, "refused", False, 1, 0, 0) == 4
    assert retry.wait_s(failed, "refused", False, 1, 0, 0.99) == pytest.approx(4.99)
    assert retry.wait_s(failed, "refused", False, 3, 8, 0) is None
    assert retry.wait_s(failed, "refused", False, 10, 0, 0) is None
    unknown = RequestFailed("gone", status=502)
    waits = [retry.wait_s(unknown, "refused", True, attempt, 0, 0.999) for attempt in range(1, 9)]
    assert [round(wait or 0, 1) for wait in waits] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert Retry(reconnects=False).wait_s(RequestFailed("no"), "unsent", True, 1, 0, 0) is None


def retry_after_s(header: str) -> float | None:
    request = httpx.Request("GET", "http://elsewhere/v1/tenants")
    headers = {"Retry-After": header}
    return refusal(httpx.Response(503, headers=headers, request=request)).retry_after_s


@pytest.mark.parametrize(
    ("header", "expected"),
    [("3", 3), ("Fri, 01 Jan 2100 00:00:00 GMT", 10**9), ("Mon, 01 Jan 2001 00:00:00 GMT", 0)],
)
def test_when_to_come_again_may_be_a_date(header: str, expected: float) -> None:
    after_s = retry_after_s(header)
    assert after_s is not None
    assert after_s >= expected
    assert (after_s > 100) == (expected > 100)


def test_when_to_come_again_may_be_nonsense() -> None:
    assert retry_after_s("soon") is None


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("content", [b"<html>", b"[]", b"\xff"])
def test_an_answer_of_another_server_is_told(status: int, content: bytes) -> None:
    asked = Replies(httpx.Response(status, content=content))
    with pytest.raises(RequestFailed, match=rf"answered {status}, and not as a Headstock server"):
        ask(asked, QUICK, "list_tenants")


def test_a_refusal_in_openais_shape_is_read() -> None:
    content = {
        "error": {"message": "no such model", "type": "x", "param": None, "code": "not-found"}
    }
    with pytest.raises(RequestFailed, match="no such model") as caught:
        ask(Replies(httpx.Response(404, json=content)), QUICK, "embed", "m", ["x"])
    assert (caught.value.code, caught.value.status) == ("not-found", 404)


def test_names_stay_one_segment_of_a_path() -> None:
    asked = Replies(httpx.Response(200, json={}))
    ask(asked, QUICK, "get_release", "../admin?x=", "a/b#c")
    assert (
        asked.asked[0].url.raw_path == b"/v1/tenants/..%2Fadmin%3Fx%3D/adapters/a%2Fb%23c/release"
    )


def test_white_space_around_a_key_is_no_part_of_it() -> None:
    with connect("http://127.0.0.1:9", " secret\n") as client:
        assert client.key == "secret"


def test_both_clients_have_the_same_methods() -> None:
    def methods(of: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(each).parameters)
            for name, each in inspect.getmembers(of, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(Client) == methods(AsyncClient)


# What the client calls what the server's schemas call otherwise.
NAMES = {
    "Tenant": "TenantInfo",
    "Tenants": "TenantList",
    "FeatureCache": "FeatureCacheMode",
    "Key": "KeyInfo",
    "Keys": "KeyList",
    "Release": "ReleaseInfo",
    "Adapter": "AdapterInfo",
    "Adapters": "AdapterList",
    "Version": "VersionInfo",
    "Versions": "VersionList",
    "Entity": "EntitySpan",
    "Predictions": "PredictResponse",
    "FanOut": "FanOutResponse",
    "Backbone": "BackboneInfo",
    "Backbones": "BackboneList",
    "Embeddings": "EmbeddingsResponse",
}


def test_answers_have_the_fields_that_servers_send() -> None:
    shapes = {
        name: each
        for name, each in vars(answers).items()
        if isinstance(each, type) and each.__module__ == answers.__name__
    }
    kinds = (
        schemas.ClassificationPrediction,
        schemas.MultilabelPrediction,
        schemas.RegressionPrediction,
        schemas.TaggingPrediction,
    )
    union = {field for kind in kinds for field in kind.model_fields}
    assert set(get_type_hints(shapes.pop("Prediction"))) == union
    for name, shape in shapes.items():
        model = getattr(schemas, NAMES.get(name, name))
        assert set(get_type_hints(shape)) == set(model.model_fields), name


def test_every_call_is_a_route_of_the_table(tmp_path: Path) -> None:
    known = {(route.method, route.path) for route in ROUTES}
    samples: dict[str, tuple[Any, ...]] = {
        "set_feature_cache": ("{tenant}", "own"),
        "set_quota": ("{tenant}", {"bytes": 5}),
        "create_key": ("{tenant}", ["predict"], 60),
        "rotate_key": ("{tenant}", "{key}", 60, None),
        "list_audit": ("{tenant}", 10, 5),
        "revoke_key": ("{tenant}", "{key}"),
        "push": (b"", "{tenant}", "{adapter}", True),
        "set_release": ("{tenant}", "{adapter}", 1),
        "predict": ("{tenant}", "{adapter}", [], 1),
        "predict_all": ("{tenant}", [], [], 1),
        "embed": ("m", [], 8, "query"),
    }
    names = [name for name, each in inspect.getmembers(calls, inspect.isfunction) if name[0] != "_"]
    names.remove("quote")
    names.remove("dataclass")
    names.remove("field")
    for name in names:
        make = getattr(calls, name)
        named = tuple(f"{{{each}}}" for each in inspect.signature(make).parameters)
        call = make(*samples.get(name, named))
        path = call.path.replace("%7B", "{").replace("%7D", "}")
        assert (call.method, path) in known, name
        json.dumps(call.json)


@pytest.mark.parametrize("key", ["k\xe9", "k\xa0", "a\nb", "\ud800"])
def test_a_key_that_no_header_can_carry_is_refused_at_once(key: str) -> None:
    with pytest.raises(ValueError, match="copy it once more") as caught:
        Client("http://127.0.0.1:9", key)
    assert type(caught.value) is ValueError


def test_one_string_in_place_of_a_list_is_not_taken_apart() -> None:
    with pytest.raises(TypeError, match=r"inputs is one string: give a list of them, \['hello'\]"):
        calls.predict("acme", "intents", "hello", 1)
    with pytest.raises(TypeError, match="adapters is one string"):
        calls.predict_all("acme", "intents", ["hello"], 1)
    with pytest.raises(TypeError, match="inputs is one string"):
        calls.embed("minilm", "hello", None, None)
