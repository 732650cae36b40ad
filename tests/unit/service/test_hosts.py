"""Which connections make room: of the host with most, idle before busy, answered ones last."""

import random
import time
from collections import Counter

import pytest

from service.hosts import Connection, choose_victims, host_of, split_peer


def held(
    host: str,
    count: int,
    *,
    since: float = 0.0,
    idle: bool = True,
    authenticated: bool = False,
) -> list[Connection]:
    """Connections of a host, each a second younger than the one before it."""
    return [
        Connection(number, host, since + number, idle, authenticated) for number in range(count)
    ]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2::3", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("/run/socket", "/run/socket"),
        ("", ""),
    ],
)
def test_a_host_is_an_address_or_a_network_of_ipv6(address: str, host: str) -> None:
    assert host_of(address) == host


@pytest.mark.parametrize(
    ("peer", "split"),
    [
        ("ipv4:127.0.0.1:50", ("127.0.0.1", 50)),
        ("ipv6:%5B::1%5D:50", ("::1", 50)),
        ("ipv6:[2001:db8::1]:50", ("2001:db8::1", 50)),
        ("ipv6:%5Bfe80::1%25eth0%5D:50", ("fe80::1", 50)),
        ("ipv6:%5B::ffff:10.0.0.1%5D:50", ("10.0.0.1", 50)),
        ("unix:/run/socket", ("/run/socket", 0)),
        ("", ("", 0)),
    ],
)
def test_a_peer_of_grpc_has_an_address_and_a_port(peer: str, split: tuple[str, int]) -> None:
    assert split_peer(peer) == split


def test_nothing_is_closed_where_there_is_room() -> None:
    assert choose_victims(held("a", 4), 4) == []
    assert choose_victims([], 4, 2) == []


def test_the_host_with_most_makes_room_by_its_oldest_idle_connection() -> None:
    many, newcomer = held("many", 256), held("new", 1, since=1000)
    assert choose_victims(many + newcomer, 256) == many[:1]


def test_idle_connections_go_before_busy_ones_and_those_with_a_key_last() -> None:
    with_key = held("many", 3, idle=False, authenticated=True)
    without = held("many", 3, since=10, idle=False)
    idle = held("many", 3, since=20)
    few = held("few", 1)
    victims = choose_victims([*with_key, *without, *idle, *few], 2)
    assert victims == [*idle, *without, *with_key[:2]]


def test_another_hosts_idle_connection_goes_before_an_answered_one() -> None:
    busy = held("busy", 200, idle=False, authenticated=True)
    idle = held("idle", 55)
    assert choose_victims([*busy, *idle, *held("new", 1, since=999)], 255) == idle[:1]


def test_an_answered_connection_goes_where_others_have_one_each() -> None:
    busy = held("busy", 200, idle=False, authenticated=True)
    others = [each for name in "bcde" for each in held(name, 1)]
    assert choose_victims([*busy, *others, *held("new", 1, since=999)], 204) == busy[:1]


def test_a_newcomer_is_refused_where_its_host_has_as_many_as_any() -> None:
    busy = [each for name in "abcd" for each in held(name, 2, idle=False, authenticated=True)]
    fifth = Connection(9, "a", 999, idle=True)
    assert choose_victims([*busy, fifth], 8) == [fifth]
    alone = [each for name in "abcd" for each in held(name, 1)]
    newcomer = held("new", 1, since=999)
    assert choose_victims(alone + newcomer, 4) == newcomer


def test_a_host_has_its_share_even_where_there_is_room() -> None:
    many, few = held("many", 10), held("few", 2)
    assert choose_victims(many + few, 100, 4) == many[:6]
    assert choose_victims(many + few, 5, 4) == many[:7]


def test_what_is_left_is_even_and_as_much_as_may_be() -> None:
    chance = random.Random(7)
    for _ in range(200):
        connections = [
            Connection(number, chance.choice("abcdefgh"), chance.random(), idle=True)
            for number in range(chance.randrange(60))
        ]
        limit = chance.randrange(1, 60)
        victims = choose_victims(connections, limit)
        before = Counter(each.host for each in connections)
        after = before - Counter(each.host for each in victims)
        assert len(victims) == len({each.key for each in victims})
        assert after.total() == min(limit, len(connections))
        # Who gave something has no less than anybody else, but for what cannot be halved.
        for victim in victims:
            assert after[victim.host] >= max(after.values(), default=0) - 1


def test_many_hosts_at_once_cost_milliseconds() -> None:
    """One network of IPv6 has as many hosts as it likes."""
    crowd = [Connection(number, f"host{number}", number, idle=True) for number in range(2000)]
    started = time.perf_counter()
    assert len(choose_victims(crowd, 256)) == 1744
    assert time.perf_counter() - started < 0.2  # 10 ms; each by itself it would be a second
