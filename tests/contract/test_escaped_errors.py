"""Errors outside handlers are answered at once as any other, and no count, span or log line costs
an answer."""

from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from service.http.boundary import ErrorBoundary
from tests.contract.grpc_support import Rpc, check_refusal
from tests.contract.support import ACME, PREDICT, Server, check_problem
from tests.contract.test_grpc_oip import infer

TELEMETRY = ["service.metrics.Metrics.count_request", "service.tracing.Tracing.record"]


def fail(*_: object, **__: object) -> None:
    raise ValueError("the private reason")


@pytest.mark.parametrize("broken", [*TELEMETRY, "service.http.app.log_request"])
async def test_what_is_told_of_a_request_costs_no_answer(
    server: Server, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broken, fail)
    made = await server.call("POST", "/v1/tenants", json={"name": "new"})
    assert made.status_code == 201
    key = await server.new_key("new", "predict")
    assert (await server.ok("GET", "/v1/tenants/new/adapters", key))["adapters"] == []
    assert len(made.headers["x-request-id"]) == 16
    assert "the private reason" in caplog.text


@pytest.mark.parametrize(
    "broken",
    [
        "service.metrics.Metrics.count_grpc_request",
        "service.tracing.Tracing.record",
        "service.grpc.answer.log_request",
    ],
)
async def test_what_is_told_of_a_call_costs_no_answer(
    rpc: Rpc, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broken, fail)
    assert (await rpc.call("ModelInfer", infer("a"))).model_version == "1"


@pytest.mark.parametrize(
    "broken",
    [
        "service.http.app.Paths.find",
        "service.http.unread._may_be_much",
        "service.http.app.Starlette.__call__",
    ],
)
async def test_an_error_outside_a_handler_is_a_problem_document(
    server: Server, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broken, fail)
    response = await server.http.get("/nothing")
    assert response.status_code == 500
    check_problem(response)
    assert len(response.headers["x-request-id"]) == 16
    assert "private" not in response.text
    assert "the private reason" in caplog.text
    counted = server.metric("requests_total", method="GET", route="unmatched", status="500")
    assert counted == 1


@pytest.mark.parametrize("digits", [18, 19, 20, 4300, 4301, 30_000])
async def test_a_length_of_any_number_of_digits_is_too_large(server: Server, digits: int) -> None:
    headers = {"Content-Length": "9" * digits}
    for where in (PREDICT, "/v1/tenants/acme/adapters/intents/versions", "/nothing"):
        response = await server.call("POST", where, headers=headers, content=b"{}")
        assert response.status_code == (404 if where == "/nothing" else 413)


def respond(_: Scope, error: Exception) -> Response:
    return PlainTextResponse(type(error).__name__, 500)


async def ask(app: Any) -> httpx.Response:
    transport = httpx.ASGITransport(ErrorBoundary(app, respond), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://headstock") as http:
        return await http.get("/")


async def test_an_app_that_gives_no_answer_is_answered_for() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    assert (await ask(silent)).text == "RuntimeError"


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("within the body")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ValueError, match="within the body"):
        await ErrorBoundary(half, respond)({"type": "http"}, fail, send)  # type: ignore[arg-type]
    assert [each["type"] for each in sent] == ["http.response.start"]


async def test_a_change_that_is_committed_is_answered_whatever_follows_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("service.follower.Follower.catch_up", fail)
        made = await server.ok("POST", f"{ACME}/keys", json={"scopes": ["predict"]})
    assert "the private reason" in caplog.text
    await server.runtime.follower.catch_up()
    await server.ok("POST", PREDICT, made["key"], json={"inputs": ["x"]})


async def test_health_that_fails_gives_no_reason(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health.aio.HealthServicer, "Check", fail)
    stub: Any = health_pb2_grpc.HealthStub(rpc.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest())
    check_refusal(caught.value)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "the private reason" in caplog.text


async def test_reflection_that_fails_gives_no_reason(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflection.aio.ReflectionServicer, "ServerReflectionInfo", fail)
    asked: Any = rpc.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(aiter(asked(iter([b""]))))
    check_refusal(caught.value)
    assert caught.value.code() == grpc.StatusCode.INTERNAL


async def test_reflection_on_what_is_no_message_is_the_callers_fault(
    rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    asked: Any = rpc.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(aiter(asked(iter([b"\xff\xff\xff"]))))
    check_refusal(caught.value)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caplog.records == []
