"""Who holds the connections of a full server, and which of them make room for others.

Pure decisions for every protocol: the transports say what they hold, and close what is chosen.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import unquote

Peer = tuple[str, int]  # a plain address and a port

_IPV6_HOST_BITS: Final = 64  # one machine is given a whole /64, and may use any address of it


@dataclass(frozen=True, slots=True)
class Connection:
    """One open connection.

    `since` is when it was opened or last had a request under way, on any clock that all share.
    One that serves a request is not `idle`; `authenticated` says that the request has a valid key.
    """

    key: int  # by which the transport knows it
    host: str
    since: float
    idle: bool
    authenticated: bool = False


def host_of(address: str) -> str:
    """The host that an IP address belongs to: the address of IPv4, the /64 network of IPv6.

    What is not an IP address (a path, an empty text) is a host of its own.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:  # of a socket that listens for both: a /64 would hold them all
        return str(ip.ipv4_mapped)
    return str(ip_network((ip, _IPV6_HOST_BITS), strict=False))


def plain_address(address: str) -> str:
    """An IP address in one form: without the zone, and of IPv4 where it is one in a form of IPv6.

    Sockets and gRPC write both in forms of their own.
    """
    return address.partition("%")[0].removeprefix("::ffff:")


def split_peer(peer: str) -> Peer:
    """The peer of a call in gRPC's form, such as `ipv6:%5B::1%5D:50`; port 0 without one."""
    kind, _, rest = peer.partition(":")
    address, _, port = unquote(rest).rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return rest, 0
    return plain_address(address.removeprefix("[").removesuffix("]")), int(port)


def choose_victims(
    connections: Iterable[Connection], limit: int, per_host: int | None = None
) -> list[Connection]:
    """The connections to close so that at most `limit` are left, and `per_host` of each host.

    The newcomer is one of `connections`. Room is made by the host that has most, by its idle
    connections first, the oldest before all; then by those whose request has no key. One that
    serves a request with a valid key goes only where no host that has more than the fewest has any
    other connection. Where hosts have equally many, the one with the newest connection makes
    room: a newcomer's host gets no more than others have.
    """
    held: defaultdict[str, list[Connection]] = defaultdict(list)
    for each in connections:
        held[each.host].append(each)
    victims: list[Connection] = []
    n_left = 0
    for own in held.values():
        own.sort(key=_cost, reverse=True)
        while per_host is not None and len(own) > per_host:
            victims.append(own.pop())
        n_left += len(own)
    if n_left > limit:
        victims += _even_out(held, n_left - limit)
    return victims


def _cost(connection: Connection) -> tuple[bool, bool, float]:
    """What closing a connection costs its client, and then how new it is."""
    return not connection.idle, connection.authenticated, connection.since


def _even_out(held: Mapping[str, list[Connection]], n_victims: int) -> Iterator[Connection]:
    """Take so many connections from the hosts, each time from the one that must make room.

    Heaps, since thousands of hosts with a connection each are no more than one network of IPv6.
    """
    newest = {host: max(each.since for each in own) for host, own in held.items() if own}
    everybody = _Heap(held, newest)
    # Those who have something to close that costs no answer.
    givers = _Heap({host: own for host, own in held.items() if own and _is_cheap(own)}, newest)
    least = min(len(held[host]) for host in newest)
    for _ in range(n_victims):
        fullest, host = everybody.top(), givers.top()
        assert fullest is not None, "there are more connections than victims"
        # Taking from a host that has no more than the poorest evens nothing out.
        if host is None or len(held[host]) == least < len(held[fullest]):
            host = fullest
        own = held[host]
        yield own.pop()
        least = min(least, len(own) or least)
        everybody.push(host)
        if own and _is_cheap(own):
            givers.push(host)


def _is_cheap(own: Sequence[Connection]) -> bool:
    return not own[-1].authenticated


class _Heap:
    """Hosts, the one with most connections on top; entries that time has overtaken are skipped."""

    def __init__(
        self, held: Mapping[str, Sequence[Connection]], newest: Mapping[str, float]
    ) -> None:
        self._held, self._newest = held, newest
        self._entries: list[tuple[int, float, str]] = []
        for host in held:
            self.push(host)

    def push(self, host: str) -> None:
        """A host has another number of connections than before."""
        if self._held[host]:
            heappush(self._entries, (-len(self._held[host]), -self._newest[host], host))

    def top(self) -> str | None:
        """The host with most connections, and of several the one with the newest."""
        while self._entries:
            count, _, host = self._entries[0]
            if -count == len(self._held[host]):
                return host
            heappop(self._entries)
        return None
