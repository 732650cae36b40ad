"""Run a command in a network of its own and print what it sends: `python -m tests.namespace …`.

To be started by `unshare --net`. Packets to every address are routed through the loopback device,
where this process sees them below all libraries, in whatever language they are written; nothing
can leave. Packets between addresses of the machine itself are no business of anybody.
"""

import ctypes
import fcntl
import ipaddress
import json
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence

_IFF_UP, _RTF_UP = 0x1, 0x1
_SIOCSIFFLAGS, _SIOCADDRT = 0x8914, 0x890B
_ETH_P_ALL, _IPV4, _IPV6 = 0x0003, 0x0800, 0x86DD
_DNS = 53
_UNREACHABLE = 1
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def main(command: Sequence[str]) -> int:
    """The command's status; the packets that it sent elsewhere are printed as JSON."""
    route_all_through_loopback()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as watch:
        watch.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**26)
        watch.bind(("lo", _ETH_P_ALL))
        process = subprocess.Popen(command, stdout=sys.stderr)
        sent: set[str] = set()
        while process.poll() is None:
            sent.update(_foreign(watch))
        sent.update(_foreign(watch))
    print(json.dumps(sorted(sent)))
    return process.returncode


def route_all_through_loopback() -> None:
    """Bring `lo` up, and make it the way to everywhere, in IPv4 and IPv6."""
    device = ctypes.create_string_buffer(b"lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
        fcntl.ioctl(four, _SIOCSIFFLAGS, struct.pack("16sh22x", device.value, _IFF_UP))
        anywhere = struct.pack("H14x", socket.AF_INET)
        # struct rtentry: destination, gateway and mask 0.0.0.0; flags; the device's name.
        to = (*[anywhere] * 3, _RTF_UP)
        route = struct.pack("8x16s16s16sH6x8x8x8xP24x", *to, ctypes.addressof(device))
        fcntl.ioctl(four, _SIOCADDRT, route)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
        # struct in6_rtmsg: from and to ::/0 with no gateway; metric, flags, the device's number.
        index = socket.if_nametoindex("lo")
        fcntl.ioctl(six, _SIOCADDRT, struct.pack("48x4xHHI12xIi", 0, 0, 1, _RTF_UP, index))


def _foreign(watch: socket.socket) -> Iterator[str]:
    """What was sent since the last look, as "ADDRESS port NUMBER", waiting a moment for it."""
    readable, _, _ = select.select([watch], [], [], 0.1)
    while readable:
        packet, (_, kind, *_) = watch.recvfrom(2048)
        if (found := _destination(packet, kind)) is not None:
            address, port = found
            if port == _DNS or not address.is_loopback:
                yield f"{address} port {port}"
        readable, _, _ = select.select([watch], [], [], 0)


def _destination(packet: bytes, kind: int) -> tuple[IpAddress, int] | None:
    """Where a packet of TCP or UDP goes; None for others, such as a search for routers."""
    if kind == _IPV4:
        start, transport = 4 * (packet[0] & 0xF), packet[9]
        address: IpAddress = ipaddress.IPv4Address(packet[16:20])
    elif kind == _IPV6:
        start, transport = 40, packet[6]
        address = ipaddress.IPv6Address(packet[24:40])
        if transport == socket.IPPROTO_ICMPV6 and packet[start] == _UNREACHABLE:
            # Linux sends nothing over such a route in IPv6: its refusal holds the packet.
            return _destination(packet[start + 8 :], kind)
    else:
        return None
    if transport not in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        return None
    return address, int.from_bytes(packet[start + 2 : start + 4])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
