"""Who holds the connections of HTTP: a full server closes some of the host that has most."""

from typing import Final, Protocol

from service.hosts import Connection, choose_victims
from service.metrics import Metrics

# Of the limit, closed at once when it is reached: to choose takes a millisecond for 1,000
# connections, and whoever is closed may be back at once.
_ROOM: Final = 1 / 64


class Held(Protocol):
    """A connection as it is seen here."""

    def describe(self, key: int) -> Connection:
        """What there is to know for a choice."""

    def give_way(self) -> None:
        """Close: others need the room."""


class HttpConnections:
    """The open connections of a process, at most `limit`, and `per_host` of each host."""

    def __init__(self, limit: int, per_host: int | None = None) -> None:
        self._limit, self._per_host = limit, per_host
        self._open: dict[int, Held] = {}
        self._by_host: dict[str, int] = {}
        self._hosts: dict[int, str] = {}
        self._metrics: Metrics | None = None

    def report_to(self, metrics: Metrics) -> None:
        """Show what is open and what was closed in these metrics from now on."""
        self._metrics = metrics
        self._show()

    def add(self, connection: Held, host: str) -> bool:
        """A connection has been opened; whether there is room for it, perhaps made by others."""
        key = id(connection)
        self._open[key], self._hosts[key] = connection, host
        self._by_host[host] = self._by_host.get(host, 0) + 1
        is_over_share = self._per_host is not None and self._by_host[host] > self._per_host
        if len(self._open) > self._limit or is_over_share:
            self._make_room(connection)
        self._show()
        return key in self._open

    def remove(self, connection: Held) -> None:
        """A connection is closed, or is about to be."""
        key = id(connection)
        if self._open.pop(key, None) is None:
            return
        host = self._hosts.pop(key)
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]
        self._show()

    def _make_room(self, newcomer: Held) -> None:
        victims = self._choose()
        for victim in victims:
            connection = self._open[victim.key]
            self.remove(connection)
            if connection is not newcomer:  # who is told of it
                connection.give_way()
        if self._metrics is not None:
            self._metrics.closed_connections.labels("http").inc(len(victims))

    def _choose(self) -> list[Connection]:
        """Those that must go, and some more that cost nothing."""
        described = [connection.describe(key) for key, connection in self._open.items()]
        victims = choose_victims(described, self._limit, self._per_host)
        if len(self._open) > self._limit:
            gone = {each.key for each in victims}
            left = [each for each in described if each.key not in gone]
            more = choose_victims(left, self._limit - int(self._limit * _ROOM))
            victims += [each for each in more if each.idle]
        return victims

    def _show(self) -> None:
        if self._metrics is not None:
            self._metrics.connections.labels("http").set(len(self._open))
