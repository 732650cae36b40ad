"""The comparison as a section of `benchmarks/RESULTS.md`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.peers.measure import ROUNDS, Measured, Rates
from benchmarks.peers.ours import MEMORY_TENANTS, Ours
from benchmarks.peers.peer import Peer
from benchmarks.peers.workload import CLIENTS, SECONDS, SIZES

TITLE = "Peers"
_MIB, _GIB = 2**20, 2**30
_COLUMNS = (
    "server",
    *(f"rows/s, requests of {size}" for size in SIZES),
    "with one tenant",
    "each tenant more",
    "tenants a GiB",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A peer's figures, or the reason why there are none."""

    peer: Peer
    measured: Measured | None
    reason: str = ""


def section(rows: Sequence[Row], server: Ours, tenants: int, begun: float) -> str:
    """The section's body: a table, what each row is, and what was not measured and why."""
    lines = [_preface(tenants, begun), ""]
    lines += ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    lines.append(_cells("Headstock", *("" for _ in SIZES), *_memory(server, None)))
    lines += [_line(row.peer, row.measured, server) for row in rows if row.measured]
    lines += ["", *(f"- {row.peer.title}: {_about(row.peer)}" for row in rows if row.measured)]
    lines += [f"- {row.peer.title}: not measured; {row.reason}" for row in rows if row.reason]
    return "\n".join([*lines, ""])


def load_average() -> float:
    """Of the last minute; it tells whether other work was running."""
    return os.getloadavg()[0]


def _preface(tenants: int, begun: float) -> str:
    return (
        "Made by `make bench-peers`. Each peer runs in an environment of its own, "
        f"with {tenants} tenants and the same texts, asked by {CLIENTS} clients in a closed loop, "
        "each for a tenant of its own; every label of every answer was checked. Headstock is "
        f"loaded in turn with each peer while both are up: rates are medians of {ROUNDS} rounds of "
        f"{SECONDS:.0f} s, with Headstock's in the same rounds and how many times the peer's that "
        "is (the median of the rounds' ratios). Memory is resident and of the whole process tree; "
        f"each tenant more is the growth from 1 to {tenants} tenants, Headstock's from "
        f"{MEMORY_TENANTS[0]} to {MEMORY_TENANTS[1]:,}. A full model is ONNX Runtime in fp32 on "
        "a copy of Headstock's own graph, as many single-threaded runs at once as there are cores; "
        "a request is one batch, padded to its longest text, where Headstock puts rows of near "
        f"length together. Load average when it began and ended: {begun:.1f}, {load_average():.1f}."
    )


def _line(peer: Peer, measured: Measured, server: Ours) -> str:
    return _cells(peer.title, *map(_rate, measured.rates.values()), *_memory(measured, server))


def _rate(rates: Rates) -> str:
    theirs, ours = median(rates.theirs), median(rates.ours)
    return f"{theirs:.0f}; Headstock {ours:.0f}, {rates.ratio:.1f} x"


def _memory(weighed: Measured | Ours, server: Ours | None) -> tuple[str, str, str]:
    """With one tenant, each tenant more, tenants a GiB with how many times that Headstock has."""
    first, each = f"{weighed.first_bytes / _MIB:,.0f} MiB", weighed.bytes_a_tenant
    if each is None:
        return first, "", ""
    times = f"; Headstock {each / server.bytes_a_tenant:,.0f} x" if server else ""
    return first, f"{each / _MIB:,.2f} MiB", f"{_GIB / each:,.1f}{times}"


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _about(peer: Peer) -> str:
    """The docstring of a peer's class on one line."""
    return " ".join((type(peer).__doc__ or "").split())
