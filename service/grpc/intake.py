"""What is let in at once, so that calls without a key or without an end cost others nothing."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from google.protobuf.message import DecodeError, Message

from adapters.errors import InvalidInput, Overloaded
from service.bounds import INLINE_BYTES
from service.grpc.methods import Method

_MOST_CALLS = 1024
_MOST_UNPACKED = 2  # of the long ones at once: a few bytes of one may become a hundred of memory


class Intake:
    """Counts the handlers that run. gRPC's own count holds a place until an answer is read."""

    def __init__(self) -> None:
        self._calls = self._with_key = 0
        self._is_closed = False
        self._is_over = asyncio.Event()
        self._unpacking = asyncio.Semaphore(_MOST_UNPACKED)

    @contextmanager
    def call(self, needs_key: bool) -> Iterator[None]:
        """A handler runs. Raises Overloaded."""
        if self._is_closed and needs_key:
            raise Overloaded("the server is stopping; ask another one")
        if self._calls >= _MOST_CALLS:
            raise Overloaded(f"{_MOST_CALLS} calls are under way; try again in a moment")
        self._calls += 1
        self._with_key += needs_key
        try:
            yield
        finally:
            self._calls -= 1
            self._with_key -= needs_key
            self._end_if_over()

    async def close(self) -> None:
        """Let no more calls in but those that ask how the server is; wait for the others' end."""
        self._is_closed = True
        self._end_if_over()
        await self._is_over.wait()

    def _end_if_over(self) -> None:
        if self._is_closed and not self._with_key:
            self._is_over.set()

    async def read(self, method: Method, content: bytes) -> Message:
        """A message of a method's requests. Raises InvalidInput."""
        try:
            if len(content) <= INLINE_BYTES:
                return method.request.FromString(content)
            async with self._unpacking:
                return await asyncio.to_thread(method.request.FromString, content)
        except DecodeError:
            raise InvalidInput("the message is not what the method takes") from None
