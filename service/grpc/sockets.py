"""The TCP connections of this process on one port, by its descriptors: gRPC lists and closes none.

Linux shows descriptors under /proc. Elsewhere there is nothing to be seen, and gRPC's own bound on
connections, which knows no hosts, is the only one.
"""

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.hosts import Peer, plain_address

_DESCRIPTORS: Final = "/proc/self/fd"


@dataclass(frozen=True, slots=True)
class OpenSocket:
    """A descriptor, and the inode that it had: a number is soon taken again by another socket."""

    fd: int
    inode: int
    peer: Peer | None  # None: it is no connection on the port


class Sockets:
    """Connections that clients have made to a port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._known: dict[int, OpenSocket] = {}

    @staticmethod
    def can_look() -> bool:
        """Whether this system shows the descriptors of a process."""
        return Path(_DESCRIPTORS).is_dir()

    def look(self) -> dict[int, Peer]:
        """Whose each open connection is, by its inode. Raises OSError.

        It takes 3 milliseconds for 1,000 descriptors: what was seen before is only compared.
        """
        seen: dict[int, OpenSocket] = {}
        for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208  # paths cost ten times as much
            fd = int(name)
            try:
                status = os.fstat(fd)
            except OSError:  # closed since, as is that of the listing itself
                continue
            if not stat.S_ISSOCK(status.st_mode):
                continue
            known = self._known.get(fd)
            if known is None or known.inode != status.st_ino:
                known = OpenSocket(fd, status.st_ino, self._peer(fd))
            seen[fd] = known
        self._known = seen
        return {each.inode: each.peer for each in seen.values() if each.peer is not None}

    def end(self, inodes: set[int]) -> None:
        """End connections, as their clients could; gRPC then cleans up behind them."""
        for known in self._known.values():
            if known.inode in inodes:
                _shut_down(known)

    def _peer(self, fd: int) -> Peer | None:
        # The descriptor is gRPC's: the object must let go of it, whatever happens.
        try:
            borrowed = socket.socket(fileno=fd)
        except OSError:
            return None
        try:
            if borrowed.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            if borrowed.getsockname()[1] != self._port:
                return None
            address, port, *_ = borrowed.getpeername()
        except OSError:  # it listens, or its client is gone
            return None
        finally:
            borrowed.detach()
        return plain_address(address), port


def _shut_down(known: OpenSocket) -> None:
    try:
        # A descriptor of our own: that of gRPC may be closed, and be another's, at any moment.
        with socket.socket(fileno=os.dup(known.fd)) as own:
            if os.fstat(own.fileno()).st_ino == known.inode:
                own.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself
