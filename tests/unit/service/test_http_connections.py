"""A full server takes from the host that has most, and no more than it must."""

from dataclasses import dataclass, field

from service.hosts import Connection
from service.http.connections import HttpConnections
from service.metrics import Metrics


@dataclass
class Fake:
    """A connection that knows whether it was told to close."""

    host: str
    since: float = 0
    idle: bool = True
    authenticated: bool = False
    closed: list[str] = field(default_factory=list)

    def describe(self, key: int) -> Connection:
        return Connection(key, self.host, self.since, self.idle, self.authenticated)

    def give_way(self) -> None:
        self.closed.append("closed")


def test_a_newcomer_takes_the_place_of_the_oldest_idle_one_of_the_fullest_host() -> None:
    held = HttpConnections(8)
    many = [Fake("many", since) for since in range(6)]
    few = [Fake("few", since) for since in range(2)]
    for connection in (*many, *few):
        assert held.add(connection, connection.host)
    assert held.add(Fake("new", 9), "new")
    assert [bool(each.closed) for each in many] == [True, *[False] * 5]
    assert not any(each.closed for each in few)


def test_room_is_made_for_several_where_it_costs_nothing() -> None:
    held, metrics = HttpConnections(128), Metrics()
    held.report_to(metrics)
    idle = [Fake("many", since) for since in range(128)]
    for connection in idle:
        held.add(connection, connection.host)
    assert held.add(Fake("new", 999), "new")
    assert [bool(each.closed) for each in idle].count(True) == 3
    name = "headstock_closed_connections_total"
    assert metrics.registry.get_sample_value(name, {"protocol": "http"}) == 3


def test_what_is_under_way_is_not_closed_to_have_room_in_advance() -> None:
    held = HttpConnections(128)
    busy = [Fake("many", since, idle=False) for since in range(128)]
    for connection in busy:
        held.add(connection, connection.host)
    assert held.add(Fake("new", 999), "new")
    assert sum(bool(each.closed) for each in busy) == 1


def test_a_newcomer_of_the_fullest_host_is_refused_where_all_others_work() -> None:
    held = HttpConnections(4)
    busy = [Fake("many", idle=False, authenticated=True) for _ in range(4)]
    for connection in busy:
        held.add(connection, connection.host)
    assert not held.add(Fake("many", 9), "many")
    assert not any(each.closed for each in busy)


def test_a_share_per_host_holds_before_the_server_is_full() -> None:
    held = HttpConnections(100, per_host=2)
    first = Fake("a", 1)
    assert held.add(first, "a")
    assert held.add(Fake("a", 2), "a")
    assert held.add(Fake("b", 3), "b")
    assert held.add(Fake("a", 4), "a")
    assert first.closed


def test_what_is_removed_is_forgotten() -> None:
    held = HttpConnections(2, per_host=1)
    for _ in range(100):
        connection = Fake("a")
        assert held.add(connection, "a")
        held.remove(connection)
        held.remove(connection)
        assert not connection.closed
