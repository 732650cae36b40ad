"""Who holds gRPC's connections: a full server closes some of the host that has most of them."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from service.grpc.sockets import Sockets
from service.hosts import Connection, Peer, choose_victims, host_of, split_peer
from service.metrics import Metrics

# gRPC itself refuses what comes when so many times the limit are open: a flood between two looks.
_HEADROOM: Final = 4
_LOOK_S: Final = 0.25  # who is closed and comes back at once does so no more often than this
_FLOOD_S: Final = 0.02  # between looks while half of the headroom is taken

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A connection, and when it was first seen."""

    peer: Peer
    host: str
    since: float


@dataclass(slots=True)
class _Activity:
    """The calls of one connection that are under way."""

    since: float
    calls: int = 0
    with_key: int = 0


class Connections:
    """Follows the connections on a port, and closes what is too many. For the event loop alone."""

    def __init__(self, limit: int, per_host: int | None, metrics: Metrics) -> None:
        self._limit, self._per_host = limit, per_host
        self._n_open = metrics.connections.labels("grpc")
        self._n_closed = metrics.closed_connections.labels("grpc")
        self._can_look = Sockets.can_look()
        self._active: dict[Peer, _Activity] = {}
        self._seen: dict[int, _Seen] = {}  # by inode
        self._ended: set[int] = set()  # inodes of those that gRPC has still to clean up behind
        self._watching: asyncio.Task[None] | None = None

    @property
    def most_of_grpc(self) -> int:
        """What gRPC itself may be told to hold: more than the limit, so that there is a choice."""
        return self._limit * _HEADROOM if self._can_look else self._limit

    def watch(self, port: int) -> None:
        """Follow the connections of a port from now on."""
        if self._can_look:
            self._watching = asyncio.create_task(self._watch(Sockets(port)))

    def stop(self) -> None:
        """Follow them no more."""
        if self._watching is not None:
            self._watching.cancel()

    @contextmanager
    def call(self, peer: str, with_key: bool = False) -> Iterator[None]:
        """A call of a peer is under way, perhaps with a valid key."""
        who = split_peer(peer)
        active = self._active.get(who)
        if active is None:
            active = self._active[who] = _Activity(time.monotonic())
        active.calls += 1
        active.with_key += with_key
        try:
            yield
        finally:
            active.calls -= 1
            active.with_key -= with_key
            active.since = time.monotonic()
            if self._watching is None and not active.calls:  # nobody else would forget it
                self._active.pop(who, None)

    async def _watch(self, sockets: Sockets) -> None:
        is_failing = False
        while True:
            pause = _LOOK_S
            try:
                pause = self._make_room(sockets)
                is_failing = False
            except Exception:
                if not is_failing:
                    logger.exception("connections of gRPC cannot be followed; trying again")
                is_failing = True
            await asyncio.sleep(pause)

    def _make_room(self, sockets: Sockets) -> float:
        """Close what is too many; in how many seconds to look again."""
        peers = sockets.look()
        self._seen = {inode: self._see(inode, peer) for inode, peer in peers.items()}
        present = set(peers.values())
        self._active = {
            peer: active for peer, active in self._active.items() if active.calls or peer in present
        }
        victims: set[int] = set()
        if len(peers) > min(self._limit, self._per_host or self._limit):
            connections = [self._connection(inode) for inode in peers]
            chosen = choose_victims(connections, self._limit, self._per_host)
            victims = {each.key for each in chosen}
            sockets.end(victims)
            self._n_closed.inc(len(victims - self._ended))
        self._ended = victims
        self._n_open.set(len(peers) - len(victims))
        is_flood = len(peers) > (self._limit + self.most_of_grpc) / 2
        return _FLOOD_S if is_flood else _LOOK_S

    def _see(self, inode: int, peer: Peer) -> _Seen:
        return self._seen.get(inode) or _Seen(peer, host_of(peer[0]), time.monotonic())

    def _connection(self, inode: int) -> Connection:
        seen = self._seen[inode]
        active = self._active.get(seen.peer)
        return Connection(
            key=inode,
            host=seen.host,
            since=seen.since if active is None else max(seen.since, active.since),
            idle=active is None or not active.calls,
            authenticated=active is not None and active.with_key > 0,
        )
