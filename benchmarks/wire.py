"""Prepared requests, and connections that read no more of an answer than they must."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Protocol, cast

import numpy as np

from benchmarks.job import Stream, Target

_MOST_BODIES = 4096
_DRAWS = 65_536


class Owner(Protocol):
    """Who sends through connections and is told what comes of it."""

    def answered(
        self, connection: "Connection", intended: float, status: str, retry_after: bool
    ) -> None:
        """The request under way has its answer."""

    def lost(self, connection: "Connection", intended: float | None) -> None:
        """The connection ended, with a request under way or without."""


class Requests:
    """Endless prepared requests of a stream."""

    def __init__(self, stream: Stream) -> None:
        self._heads = [_head(target, stream) for target in stream.targets]
        self._bodies = cycle(list(_bodies(stream)))
        self._targets = cycle(_order(stream))

    def next(self) -> bytes:
        """The bytes of one request."""
        return self._heads[next(self._targets)] + next(self._bodies)


def _order(stream: Stream) -> Sequence[int]:
    """Positions of the targets: in turn, or a long row of draws by their weights."""
    if stream.weights is None:
        return range(len(stream.targets))
    weights = np.asarray(stream.weights, dtype=float)
    random = np.random.default_rng(stream.seed)
    draws: list[int] = random.choice(len(weights), size=_DRAWS, p=weights / weights.sum()).tolist()
    return draws


def _head(target: Target, stream: Stream) -> bytes:
    lines = [
        f"POST /v1/tenants/{target.tenant}/adapters/{target.adapter}/predict HTTP/1.1",
        "Host: benchmark",
        f"Authorization: Bearer {target.key}",
        "Content-Type: application/json",
        *(f"{name}: {value}" for name, value in stream.headers.items()),
        "Content-Length: ",
    ]
    return "\r\n".join(lines).encode()


def _bodies(stream: Stream) -> Iterator[bytes]:
    """Each with its length before it, which ends the head."""
    texts = cycle(stream.texts)
    for _ in range(min(_MOST_BODIES, len(stream.texts))):
        body = json.dumps({"inputs": [next(texts) for _ in range(stream.rows)]}).encode()
        yield f"{len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One kept-alive connection with at most one request under way."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""
        self.intended: float | None = None  # of the request under way
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports are not asyncio's by descent.
        self._transport = cast(asyncio.WriteTransport, transport)

    def send(self, request: bytes, intended: float) -> None:
        assert self._transport is not None
        self.intended, self.sent = intended, time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = received[:end].lower()
        start = head.index(b"content-length:") + 15
        stop = head.find(b"\r", start)
        length = int(head[start : stop if stop > 0 else end])
        if len(received) < end + 4 + length or self.intended is None:
            return
        intended, self.intended, self._received = self.intended, None, b""
        self._owner.answered(self, intended, head[9:12].decode(), b"\r\nretry-after:" in head)

    def close(self) -> None:
        """End it; nobody is told."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        intended, self.intended = self.intended, None
        self._owner.lost(self, intended)
