"""The wrapper round every handler: it checks the key, keeps the time, maps errors, counts."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import grpc
from google.protobuf.message import Message

from adapters.errors import InvalidInput
from service.access import authorize
from service.errors import to_problem
from service.grpc.call import Call
from service.grpc.methods import Method
from service.grpc.status import message, status_code, trailers
from service.log import log_request, request_id
from service.patience import BODY_S, REQUEST_S, Patience, late, slow
from service.runtime import Runtime

_Context = grpc.aio.ServicerContext[Any, Any]


def rpc_handler(method: Method, runtime: Runtime) -> "grpc.RpcMethodHandler[Any, Any]":
    """A method of the table as gRPC takes it."""

    async def unary(request: Message, context: _Context) -> Message:
        return await _answer(method, runtime, context, _one(request))

    async def stream(requests: AsyncIterator[Message], context: _Context) -> Message:
        return await _answer(method, runtime, context, requests)

    make = grpc.unary_unary_rpc_method_handler
    behaviour: Any = unary
    if method.stream is not None:
        make, behaviour = grpc.stream_unary_rpc_method_handler, stream
    return make(
        behaviour,
        request_deserializer=method.request.FromString,
        response_serializer=method.answer.SerializeToString,
    )


async def _one(request: Message) -> AsyncIterator[Message]:
    yield request


async def _answer(
    method: Method, runtime: Runtime, context: _Context, requests: AsyncIterator[Message]
) -> Message:
    """The handler's answer, or the status of what it raised."""
    started, code, facts = time.perf_counter(), grpc.StatusCode.OK, dict[str, object]()
    own_id, failed = request_id(_header(context, "x-request-id")), False
    facts["request_id"] = own_id
    told = (("x-request-id", own_id),)
    context.set_trailing_metadata(told)
    try:
        return await _handle(method, runtime, context, requests, started, facts)
    except asyncio.CancelledError:  # the client left, or its deadline is over
        code = grpc.StatusCode.CANCELLED
        raise
    except Exception as error:
        problem = to_problem(error)
        code = status_code(problem)
        facts["code"], failed = problem.code, problem.status >= 500
        await context.abort(code, message(problem), (*told, *trailers(problem)))
        raise  # for readers of types: abort never returns
    finally:
        seconds = time.perf_counter() - started
        _tell(method, runtime, context, code, seconds, failed, facts)


async def _handle(
    method: Method,
    runtime: Runtime,
    context: _Context,
    requests: AsyncIterator[Message],
    started: float,
    facts: dict[str, object],
) -> Message:
    """The key is looked at before any message of a stream, its tenant before the second."""
    principal = None
    if method.scope is not None:
        principal = runtime.keyring.authenticate(_header(context, "authorization"))
        facts["key"] = principal.key_id
    # None where the client gives no time, whatever its types say.
    remaining_s: float | None = cast("float | None", context.time_remaining())
    given_s = math.inf if remaining_s is None else remaining_s
    all_s, too_late = min(given_s, REQUEST_S), late(given_s)
    is_streamed = method.stream is not None and all_s > BODY_S
    async with Patience(*((BODY_S, slow) if is_streamed else (all_s, too_late))) as patience:
        try:
            first = await anext(requests)
        except StopAsyncIteration:
            raise InvalidInput("the stream ended before its first message") from None
        if principal is not None and method.scope is not None:
            authorize(principal, method.tenant(first), method.scope)
        facts |= method.named(first)
        call = Call(runtime, principal, patience, started + all_s, too_late, facts)
        if method.stream is not None:
            return await method.stream(call, first, requests)
        assert method.unary is not None, "a method is one or the other"
        return await method.unary(call, first)


def _tell(
    method: Method,
    runtime: Runtime,
    context: _Context,
    code: grpc.StatusCode,
    seconds: float,
    failed: bool,
    facts: Mapping[str, object],
) -> None:
    """Metrics, span and log of one call."""
    runtime.metrics.count_grpc_request(method.path, code.name, seconds)
    traceparent = _header(context, "traceparent")
    facts = {"method": method.path, "status": code.name, **facts}
    runtime.tracing.record(method.path, traceparent, seconds, failed, facts)
    log_request("grpc", traceparent, seconds, facts)


def _header(context: _Context, wanted: str) -> str | None:
    """A key of the metadata: text, and the first where it comes twice."""
    for name, value in context.invocation_metadata() or ():
        if name == wanted:
            return value if isinstance(value, str) else value.decode("latin-1")
    return None
