"""What asks for no key: health and reflection. Their streams have no end, so few are let in."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection

_MOST = 64

_Context = grpc.aio.ServicerContext[Any, Any]


class Room:
    """How many streams without a key may be open: no call shall lack the room that they take."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._inside: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    @asynccontextmanager
    async def place(self, context: _Context) -> AsyncIterator[None]:
        """Hold a place; the call ends with a status where there is none, or when all must go."""
        if len(self._inside) >= self._most:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._most} streams that need no key are open; end one, or try again later",
            )
        task = asyncio.current_task()
        assert task is not None, "gRPC runs every call in a task"
        self._inside.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._is_closed:
                raise
            task.uncancel()
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        finally:
            self._inside.discard(task)

    def close(self) -> None:
        """Send all away: a server waits for its streams to end before it stops."""
        self._is_closed = True
        for task in self._inside:
            task.cancel()


class OpenHealth(health.aio.HealthServicer):
    """The standard service of health."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self._room = room

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:  # noqa: N802
        """Tell the status whenever it changes."""
        async with self._room.place(context):
            await super().Watch(request, context)


class OpenReflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]  # it has no types
    """The standard service of reflection."""

    def __init__(self, services: Sequence[str], room: Room) -> None:
        super().__init__(services)
        self._room = room

    async def ServerReflectionInfo(  # noqa: N802
        self,
        request_iterator: AsyncIterator[Message],
        context: _Context,
    ) -> AsyncIterator[Message]:
        """Answer questions about the services and their messages."""
        async with self._room.place(context):
            async for answer in super().ServerReflectionInfo(request_iterator, context):
                yield answer
