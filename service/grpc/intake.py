"""What is let in at once, so that calls without a key or without an end cost others nothing."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from google.protobuf.message import DecodeError, Message

from adapters.errors import InvalidInput, Overloaded, TenantOverloaded, TooLarge
from service.access import Principal
from service.bounds import INLINE_BYTES, MOST_OPEN_BYTES, input_hint, most_elements
from service.compression import unpack_message
from service.grpc.connections import Connections
from service.grpc.methods import Method
from service.grpc.wire import has_more_elements
from service.hosts import host_of, split_peer
from service.runtime import Runtime
from service.shares import Shares

_MOST_CALLS = 1024  # with a key
_MOST_OPEN_CALLS = 64  # without one: each may hold a message of some megabytes for two seconds


class Intake:
    """Counts the handlers that run. gRPC's own count holds a place until an answer is read."""

    def __init__(self, connections: Connections, runtime: Runtime) -> None:
        self._connections = connections
        self._with_key, self._without = Shares(_MOST_CALLS), Shares(_MOST_OPEN_CALLS)
        self._parsing, self._settings = runtime.parsing, runtime.settings
        self._is_closed = False
        self._is_over = asyncio.Event()

    @contextmanager
    def call(self, peer: str, principal: Principal | None) -> Iterator[None]:
        """A handler runs, for a key or (None) for a host. Raises Overloaded, TenantOverloaded."""
        if self._is_closed and principal is not None:
            raise Overloaded("the server is stopping; ask another one")
        host = host_of(split_peer(peer)[0])
        holder = ("host", host) if principal is None else principal.holder
        shares = self._without if principal is None else self._with_key
        if not shares.take(holder, 1):
            if not shares.held(holder):
                raise Overloaded(f"{shares.lent} calls are under way; try again in a moment")
            whose = "with the keys of one tenant" if principal else "without a key from one host"
            raise TenantOverloaded(
                f"{shares.held(holder)} calls {whose} are under way, which is all that one may "
                "have now; try again in a moment"
            )
        try:
            with self._connections.call(peer, principal is not None):
                yield
        finally:
            shares.give_back(holder, 1)
            self._end_if_over()

    async def close(self) -> None:
        """Let no more calls in but those that ask how the server is; wait for the others' end."""
        self._is_closed = True
        self._end_if_over()
        await self._is_over.wait()

    def _end_if_over(self) -> None:
        if self._is_closed and not self._with_key.lent:
            self._is_over.set()

    async def read(
        self, method: Method, content: bytes, cover: Callable[[int], None] | None = None
    ) -> Message:
        """Unpack a message of a method's requests. `cover` is told how long it has become.

        Raises InvalidInput, TooLarge, and what `cover` raises.
        """
        limit = MOST_OPEN_BYTES if method.scope is None else self._settings.max_body_bytes
        pieces: list[bytes] = []
        for piece in unpack_message(content, limit):
            if pieces:
                await asyncio.sleep(0)  # others have a turn
            pieces.append(piece)
            if cover is not None:
                cover(sum(map(len, pieces)))
        content = b"".join(pieces)
        try:
            if len(content) <= INLINE_BYTES:
                return method.request.FromString(content)
            return await self._parsing.run(True, self._unpack_long, method, content)
        except DecodeError:
            raise InvalidInput("the message is not what the method takes") from None

    def _unpack_long(self, method: Method, content: bytes) -> Message:
        most = most_elements(self._settings)
        if has_more_elements(content, method.request, most):
            raise TooLarge(
                f"the message has more than {most} fields and elements; "
                f"{input_hint(self._settings)}"
            )
        return method.request.FromString(content)
