"""What asks for no key: health and reflection. Their streams have no end, so few are let in."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from adapters.errors import InvalidInput
from service.bounds import MOST_OPEN_BYTES
from service.compression import unpack_message
from service.errors import TooSlow
from service.grpc.boundary import error_boundary
from service.grpc.connections import Connections
from service.grpc.intake import Intake
from service.hosts import host_of, split_peer
from service.patience import NO_KEY_S

_MOST = 64
_STOPPING = "the server is stopping"

_Context = grpc.aio.ServicerContext[Any, Any]


class Room:
    """How many streams without a key may be open: no call shall lack the room that they take."""

    def __init__(self, connections: Connections, most: int = _MOST) -> None:
        self._connections = connections
        self._most = most
        self._is_closed = False
        self._hosts: dict[asyncio.Task[Any], str] = {}  # of those inside, the oldest first
        self._reasons: dict[asyncio.Task[Any], str] = {}  # of those that must go

    @asynccontextmanager
    async def place(self, context: _Context) -> AsyncIterator[None]:
        """Hold a place; the call ends with a status where there is none, or when it must go."""
        if self._is_closed:
            await context.abort(grpc.StatusCode.UNAVAILABLE, _STOPPING)
        host = host_of(split_peer(context.peer() or "")[0])
        if len(self._hosts) >= self._most and not self._make_room(host):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._most} streams that need no key are open; end one, or try again later",
            )
        task = asyncio.current_task()
        assert task is not None, "gRPC runs every call in a task"
        self._hosts[task] = host
        try:
            with self._connections.call(context.peer() or ""):
                yield
        except asyncio.CancelledError:
            reason = self._reasons.get(task)
            if reason is None:
                raise
            task.uncancel()
            await context.abort(grpc.StatusCode.UNAVAILABLE, reason)
        finally:
            self._hosts.pop(task, None)
            self._reasons.pop(task, None)

    def close(self) -> None:
        """Send all away, and let nobody in: a server waits for its streams before it stops."""
        self._is_closed = True
        for task in list(self._hosts):
            self._send_away(task, _STOPPING)

    def _make_room(self, host: str) -> bool:
        """Whether there is a place now: taken from the host that has most, if that evens it out."""
        held = Counter(self._hosts.values())
        fullest, most = held.most_common(1)[0]
        if held[host] + 1 >= most:
            return False
        oldest = next(task for task, its_host in self._hosts.items() if its_host == fullest)
        self._send_away(oldest, "another host has fewer of the places, which are all taken")
        return True

    def _send_away(self, task: asyncio.Task[Any], reason: str) -> None:
        self._hosts.pop(task, None)
        self._reasons[task] = reason
        task.cancel()


class OpenHealth:
    """The standard service of health. Its calls are taken as streams, as all others are."""

    def __init__(self, room: Room, intake: Intake) -> None:
        self._room, self._intake = room, intake
        self._known = health.aio.HealthServicer()

    async def tell(self, service: str, status: int) -> None:
        """Set the status of a service."""
        await self._known.set(service, status)

    def handler(self) -> grpc.GenericRpcHandler:
        """As gRPC takes it."""
        answer = health_pb2.HealthCheckResponse.SerializeToString
        return grpc.method_handlers_generic_handler(
            health.SERVICE_NAME,
            {
                "Check": grpc.stream_unary_rpc_method_handler(
                    self._check, response_serializer=answer
                ),
                "Watch": grpc.stream_stream_rpc_method_handler(
                    self._watch, response_serializer=answer
                ),
            },
        )

    async def _check(self, requests: AsyncIterator[bytes], context: _Context) -> Any:
        async with error_boundary(context):
            with self._intake.call(context.peer() or "", None):
                return await self._known.Check(await _asked(requests), context)

    async def _watch(self, requests: AsyncIterator[bytes], context: _Context) -> None:
        async with error_boundary(context), self._room.place(context):
            await self._known.Watch(await _asked(requests), context)


async def _asked(requests: AsyncIterator[bytes]) -> health_pb2.HealthCheckRequest:
    try:
        async with asyncio.timeout(NO_KEY_S):
            return health_pb2.HealthCheckRequest.FromString(_short(await anext(requests)))
    except TimeoutError:
        raise TooSlow(f"the message was not there after {NO_KEY_S:g} seconds") from None
    except StopAsyncIteration:
        raise InvalidInput("the call ended before its first message") from None


def _short(content: bytes) -> bytes:
    """Unpack a message that needs no key, and so has little room. Raises InvalidInput, TooLarge."""
    return b"".join(unpack_message(content, MOST_OPEN_BYTES))


class OpenReflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]  # it has no types
    """The standard service of reflection."""

    def __init__(self, services: Sequence[str], room: Room) -> None:
        super().__init__(services)
        self._room = room

    def handler(self) -> grpc.GenericRpcHandler:
        """As gRPC takes it, which would unpack questions of any length by itself."""
        answer = reflection_pb2.ServerReflectionResponse.SerializeToString
        return grpc.method_handlers_generic_handler(
            reflection.SERVICE_NAME,
            {
                "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                    self.ServerReflectionInfo, response_serializer=answer
                )
            },
        )

    async def ServerReflectionInfo(  # noqa: N802
        self,
        request_iterator: AsyncIterator[bytes],
        context: _Context,
    ) -> AsyncIterator[Message]:
        """Answer questions about the services and their messages."""
        async with error_boundary(context), self._room.place(context):
            questions = _questions(request_iterator)
            async for answer in super().ServerReflectionInfo(questions, context):
                yield answer


async def _questions(requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for content in requests:
        yield reflection_pb2.ServerReflectionRequest.FromString(_short(content))
