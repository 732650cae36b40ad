"""gRPC on a port of its own beside a server of the contract, and a client that checks statuses."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from service.grpc import GrpcServer
from service.grpc.methods import METHODS, Method
from tests.contract.support import ADMIN, CODES, Server

BY_NAME = {method.name: method for method in METHODS}
# Which statuses of HTTP an error has that has this one of gRPC.
_OF_HTTP = {
    "INVALID_ARGUMENT": (400, 413, 422),
    "UNAUTHENTICATED": (401,),
    "PERMISSION_DENIED": (403,),
    "NOT_FOUND": (404,),
    "FAILED_PRECONDITION": (409,),
    "ABORTED": (412,),
    "RESOURCE_EXHAUSTED": (403, 429),
    "INTERNAL": (500,),
    "UNAVAILABLE": (503,),
    "DEADLINE_EXCEEDED": (408, 503, 504),
}


@dataclass(frozen=True)
class Rpc:
    """A client of a server's gRPC."""

    server: Server
    served: GrpcServer
    channel: grpc.aio.Channel

    async def call(
        self,
        name: str,
        *requests: Message,
        key: str | None = ADMIN,
        timeout_s: float | None = None,
    ) -> Any:
        """Ask; a stream of all requests where the method takes one. `key` None sends no key."""
        method = BY_NAME[name]
        metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        asked: Any
        if method.stream is None:
            (request,) = requests
            asked = self.channel.unary_unary(
                method.path, method.request.SerializeToString, method.answer.FromString
            )(request, metadata=metadata, timeout=timeout_s)
        else:
            asked = self.channel.stream_unary(
                method.path, method.request.SerializeToString, method.answer.FromString
            )(iter(requests), metadata=metadata, timeout=timeout_s)
        return await asked

    async def refusal(
        self, code: grpc.StatusCode, name: str, *requests: Message, key: str | None = ADMIN
    ) -> str:
        """What a refusal with this status says; its details are checked."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(name, *requests, key=key)
        check_refusal(caught.value)
        assert caught.value.code() == code, caught.value.details()
        return caught.value.details() or ""


def check_refusal(error: grpc.aio.AioRpcError) -> None:
    """Whether an error has the details that belong to its status."""
    details = error.details() or ""
    assert 0 < len(details) < 2000
    assert details.isprintable()
    assert "Traceback" not in details
    status = rpc_status.from_call(
        cast(grpc.Call, error)
    )  # raises where the details contradict the status
    assert status is not None
    info, retry = ErrorInfo(), RetryInfo()
    has_retry = False
    for each in status.details:
        has_retry = each.Unpack(retry) or has_retry
        each.Unpack(info)
    known = {code for http in _OF_HTTP[error.code().name] for code in CODES[http]}
    assert info.domain == "headstock"
    assert info.reason.lower().replace("_", "-") in known
    # What may be tried again as it is; a quota that is used up may not.
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        assert has_retry == (info.reason != "QUOTA_EXCEEDED")
    assert not has_retry or retry.retry_delay.seconds >= 1


@asynccontextmanager
async def serving_grpc(server: Server) -> AsyncIterator[Rpc]:
    """gRPC for a server, and a channel to it."""
    served = GrpcServer(server.runtime, "127.0.0.1", 0)
    await served.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
            yield Rpc(server, served, channel)
    finally:
        await served.stop()


def request_of(method: Method, tenant: str) -> Message:
    """A request of a method that names a tenant's adapter `intents`, as far as it names any."""
    names = method.request.DESCRIPTOR.fields_by_name
    wanted: dict[str, Any] = {}
    if method.names is not None:
        wanted[method.names] = tenant if method.names == "tenant" else f"{tenant}.intents"
    if "adapter" in names:
        wanted["adapter"] = "intents"
    return method.request(**wanted)


def pieces(content: bytes, size: int = 1000) -> Iterable[bytes]:
    """A file in pieces."""
    return [content[start : start + size] for start in range(0, len(content), size)]


def raw(texts: Sequence[str]) -> bytes:
    """Texts as the binary form of a BYTES tensor."""
    encoded = [text.encode() for text in texts]
    return b"".join(len(each).to_bytes(4, "little") + each for each in encoded)
