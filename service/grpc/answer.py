"""The wrapper round every handler: it checks the key, keeps the time, maps errors, counts."""

import asyncio
import math
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast

import grpc
from google.protobuf.message import Message

from adapters.errors import InvalidInput
from service.access import Principal, authorize, one_authorization
from service.attempt import attempt
from service.bounds import INLINE_BYTES
from service.call import Call
from service.errors import to_problem
from service.grpc.intake import Intake
from service.grpc.methods import Method
from service.grpc.status import message, status_code, trailers
from service.log import log_request, request_id
from service.patience import NO_KEY_S, Patience, late, slow
from service.runtime import Runtime
from service.uploads import Account

_Context = grpc.aio.ServicerContext[Any, Any]


def rpc_handler(
    method: Method, runtime: Runtime, intake: Intake
) -> "grpc.RpcMethodHandler[Any, Any]":
    """A method of the table as gRPC takes it.

    All take a stream of bytes, which looks the same on the wire. Told that there is one message,
    gRPC would wait for it as long as it does not come, and unpack it before its key is looked at.
    """

    async def stream(requests: AsyncIterator[bytes], context: _Context) -> Message:
        # gRPC's generator keeps the last message until a collection finds it, unless it is closed.
        messages = cast("AsyncGenerator[bytes, None]", aiter(requests))
        async with aclosing(messages):
            return await _answer(method, runtime, intake, context, messages)

    return grpc.stream_unary_rpc_method_handler(
        stream, response_serializer=method.answer.SerializeToString
    )


async def _answer(
    method: Method,
    runtime: Runtime,
    intake: Intake,
    context: _Context,
    requests: AsyncIterator[bytes],
) -> Message:
    """The handler's answer, or the status of what it raised."""
    started, code, facts = time.perf_counter(), grpc.StatusCode.OK, dict[str, object]()
    metadata: Mapping[str, str] = {}
    told: tuple[tuple[str, str], ...] = ()
    failed = False
    try:
        metadata = _read_metadata(context)
        facts["request_id"] = own_id = request_id(metadata.get("x-request-id"))
        told = (("x-request-id", own_id),)
        context.set_trailing_metadata(told)
        principal = None
        if method.scope is not None:
            principal = runtime.keyring.authenticate(_authorization(context))
            facts["key"] = principal.key_id
        with intake.call(context.peer() or "", principal):
            return await _handle(method, runtime, intake, context, principal, requests, facts)
    except asyncio.CancelledError:  # the client left, or its deadline is over
        code = grpc.StatusCode.CANCELLED
        raise
    except Exception as error:
        problem = to_problem(error)
        code = status_code(problem)
        facts["code"], failed = problem.code, problem.status >= 500
        _forget_frames(error)
        await context.abort(code, message(problem), (*told, *trailers(problem)))
        raise  # for readers of types: abort never returns
    finally:
        seconds = time.perf_counter() - started
        _tell(method, runtime, metadata.get("traceparent"), code, seconds, failed, facts)


def _forget_frames(error: BaseException | None) -> None:
    """Frames hold the message, and gRPC keeps the error until a collection finds it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__context__


async def _handle(
    method: Method,
    runtime: Runtime,
    intake: Intake,
    context: _Context,
    principal: Principal | None,
    requests: AsyncIterator[bytes],
    facts: dict[str, object],
) -> Message:
    """The key was looked at before any message; its tenant is before the second."""
    started = time.perf_counter()
    # None where the client gives no time, whatever its types say.
    remaining_s = cast("float | None", context.time_remaining())
    given_s = math.inf if remaining_s is None else remaining_s
    request_s = runtime.settings.request_s
    all_s, too_late = min(given_s, request_s), late(given_s, request_s)
    body_s = runtime.settings.body_s if principal is not None else NO_KEY_S
    first_wait = (body_s, slow(body_s)) if all_s > body_s else (all_s, too_late)
    async with Patience(*first_wait) as patience:
        content = await _next(requests)
        with Account(principal) as account:

            def cover(size: int) -> None:
                if method.unary is not None and size > INLINE_BYTES:
                    account.cover(runtime.budgets.bodies, size)

            cover(len(content))
            if method.is_charged and principal is not None and principal.tenant is not None:
                runtime.charging.take_request(principal.tenant)
            first = await intake.read(method, content, cover)
            if principal is not None and method.scope is not None:
                authorize(principal, method.tenant(first), method.scope)
            facts |= method.named(first)
            call = Call(
                runtime=runtime,
                principal=principal,
                patience=patience,
                deadline=started + all_s,
                late=too_late,
                account=account,
                facts=facts,
            )
            if method.stream is not None:
                rest = _messages(method, intake, requests)
                return await method.stream(call, first, rest)
            assert method.unary is not None, "a method is one or the other"
            call.is_received()
            return await method.unary(call, first)


async def _next(requests: AsyncIterator[bytes]) -> bytes:
    try:
        return await anext(requests)
    except StopAsyncIteration:
        raise InvalidInput("the call ended before its first message") from None


async def _messages(
    method: Method, intake: Intake, requests: AsyncIterator[bytes]
) -> AsyncIterator[Message]:
    async for content in requests:
        yield await intake.read(method, content)


def _tell(
    method: Method,
    runtime: Runtime,
    traceparent: str | None,
    code: grpc.StatusCode,
    seconds: float,
    failed: bool,
    facts: Mapping[str, object],
) -> None:
    """Metrics, span and log of one call."""
    facts = {"method": method.path, "status": code.name, **facts}
    attempt(runtime.metrics.count_grpc_request, method.path, code.name, seconds)
    attempt(runtime.tracing.record, method.path, traceparent, seconds, failed, facts)
    attempt(log_request, "grpc", traceparent, seconds, facts)


def _read_metadata(context: _Context) -> Mapping[str, str]:
    """What calls are told with, as text; the first of each where it comes twice."""
    found: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        if name in ("traceparent", "x-request-id"):
            found.setdefault(name, _text(value))
    return found


def _authorization(context: _Context) -> str | None:
    metadata = context.invocation_metadata() or ()
    return one_authorization([_text(value) for name, value in metadata if name == "authorization"])


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
