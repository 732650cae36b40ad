"""One peer measured: memory with one tenant and with all, rates in turn with Headstock's."""

import http.client
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.peers.environment import programs
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Peer, Place, Tenant, Unavailable
from benchmarks.peers.process import Running, running
from benchmarks.peers.tenants import Truth
from benchmarks.peers.workload import SIZES, large_requests, questions, rows_a_second, send_all
from headstock.output import note
from headstock.process import free_port

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """What every peer is measured with."""

    tenants: tuple[Tenant, ...]
    texts: list[str]
    truth: Truth
    backbone: Path


@dataclass(frozen=True, slots=True)
class Rates:
    """Rows a second of a peer and of Headstock, a pair a round."""

    theirs: list[float]
    ours: list[float]

    @property
    def ratio(self) -> float:
        """How many times the peer's rate Headstock's is: the median over the rounds."""
        return median(ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates by rows a request; bytes with one tenant, and those that each more takes."""

    rates: dict[int, Rates]
    first_bytes: int
    bytes_a_tenant: float | None


def measure(peer: Peer, setting: Setting, server: Ours) -> Measured:
    """Start a peer twice: with one tenant to weigh it, with all to weigh and to load it.

    Raises:
        Unavailable: it cannot be installed or started here, breaks off, or answers wrongly.
    """
    try:
        note(f"{peer.title}: one tenant ...")
        with _warmed(peer, setting, setting.tenants[:1]) as alone:
            first = alone.rss()
        note(f"{peer.title}: {len(setting.tenants)} tenants ...")
        with _warmed(peer, setting, setting.tenants) as ready:
            grown = ready.rss() - first
            rates = {size: _rates(peer, ready, server, setting, size) for size in SIZES}
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"its connection failed: {error!r}") from error
    more = len(setting.tenants) - 1
    return Measured(rates, first, grown / more if peer.per_tenant else None)


def _rates(peer: Peer, ready: Running, server: Ours, setting: Setting, size: int) -> Rates:
    """In turn, so that what else the machine does falls on both."""
    rates = Rates([], [])
    asked = questions(setting.tenants, setting.texts, size)
    for _ in range(ROUNDS):
        rates.theirs.append(rows_a_second(peer, ready.port, setting.truth, asked))
        rates.ours.append(rows_a_second(server.asked, server.port, setting.truth, asked))
    note(f"  requests of {size}: {rates.theirs[-1]:.0f} rows/s, Headstock {rates.ours[-1]:.0f}")
    return rates


@contextmanager
def _warmed(peer: Peer, setting: Setting, tenants: Sequence[Tenant]) -> Iterator[Running]:
    bin_folder = programs(peer.folder)
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as scratch:
        ports = (free_port(), free_port(), free_port())
        place = Place(bin_folder, Path(scratch), ports, tuple(tenants), setting.backbone)
        with running(peer, place) as server:
            send_all(peer, server.port, large_requests(tenants, setting.texts))
            yield server
