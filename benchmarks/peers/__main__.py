"""`python -m benchmarks.peers [NAME...]`: measure the peers and Headstock in turn.

NAME is a folder beside this file; without one, all are measured. A peer that cannot be installed
or run here is named with the reason, never invented.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from backbone import find_backbone
from benchmarks.peers.bentoml.peer import BentoML
from benchmarks.peers.infinity.peer import Infinity
from benchmarks.peers.measure import Setting, measure
from benchmarks.peers.mlserver.peer import MLServer
from benchmarks.peers.ours import MEMORY_TENANTS, Ours, ours
from benchmarks.peers.peer import Peer, Unavailable
from benchmarks.peers.ray.peer import RayServe
from benchmarks.peers.report import TITLE, Row, load_average, section
from benchmarks.peers.tenants import Truth, make_tenant, texts, write_full_model
from benchmarks.results import write_section
from headstock.commands.common import settings
from headstock.demo import BACKBONE, ensure_backbone
from headstock.output import note

TENANTS = 8
PEERS: tuple[Peer, ...] = (
    BentoML(),
    MLServer(),
    RayServe(TENANTS, TENANTS),
    RayServe(TENANTS // 4, TENANTS),
    Infinity(),
)


def main() -> None:
    """Measure, print; write where all were measured."""
    names = sys.argv[1:]
    if unknown := set(names) - {peer.folder for peer in PEERS}:
        sys.exit(f"no such peers: {sorted(unknown)}; known: {[peer.folder for peer in PEERS]}")
    made = compare([peer for peer in PEERS if not names or peer.folder in names])
    print(made)
    if not names:
        write_section(TITLE, made)


def compare(peers: Sequence[Peer]) -> str:
    """The body of the section of results."""
    begun = load_average()
    ensure_backbone()
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        setting = _setting(Path(folder))
        note(f"Headstock: {MEMORY_TENANTS[-1]} tenants ...")
        with ours(setting.tenants, setting.texts) as server:
            rows = [_row(peer, setting, server) for peer in peers]
            return section(rows, server, TENANTS, begun)


def _setting(folder: Path) -> Setting:
    note(f"writing {TENANTS} full models ...")
    backbone = find_backbone(settings().backbones_folder, BACKBONE)
    tenants = tuple(make_tenant(folder, number) for number in range(TENANTS))
    for tenant in tenants:
        write_full_model(tenant, backbone)
    rows = texts()
    return Setting(tenants, rows, Truth(rows), backbone)


def _row(peer: Peer, setting: Setting, server: Ours) -> Row:
    try:
        return Row(peer, measure(peer, setting, server))
    except Unavailable as error:
        note(f"{peer.title}: {error}")
        return Row(peer, None, str(error))


if __name__ == "__main__":
    main()
