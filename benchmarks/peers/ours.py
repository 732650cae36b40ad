"""Headstock in the same run: its server, its tenants, its memory."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.common import Bench, backbone_digest, bench
from benchmarks.peers.load import Request
from benchmarks.peers.peer import Tenant
from benchmarks.peers.process import tree_rss
from benchmarks.peers.tenants import make_tenant, write_adapter
from benchmarks.peers.workload import large_requests, questions, send_all

# The first few hundred fit into memory that the process had used and freed before: growth from one
# tenant came out below the bytes of the weights themselves. So it is taken between these two.
MEMORY_TENANTS = (200, 1000)
_ADAPTER = "intents"


@dataclass(frozen=True, slots=True)
class Headstock:
    """Headstock's requests and answers."""

    key: str

    def request(self, tenant: Tenant, texts: Sequence[str]) -> Request:
        path = f"/v1/tenants/{tenant.name}/adapters/{_ADAPTER}/predict"
        body = json.dumps({"inputs": list(texts)}).encode()
        return Request(path, body, {"Authorization": f"Bearer {self.key}"})

    def labels(self, _tenant: Tenant, body: bytes) -> list[str]:
        return [row["label"] for row in json.loads(body)["predictions"]]


@dataclass(frozen=True, slots=True)
class Ours:
    """A ready Headstock server with the tenants on it, and what they took."""

    asked: Headstock
    port: int
    first_bytes: int
    bytes_a_tenant: float


@contextmanager
def ours(tenants: Sequence[Tenant], texts: Sequence[str]) -> Iterator[Ours]:
    """A Headstock server with `tenants`, once it has been weighed with many more."""
    with tempfile.TemporaryDirectory() as folder, bench() as running:
        asked, port = Headstock(running.client.key), urlsplit(running.client.server).port or 0
        scratch = Path(folder)
        few, many = MEMORY_TENANTS
        more = [make_tenant(scratch, number) for number in range(len(tenants), many)]
        everybody = [*tenants, *more]
        digest = backbone_digest()

        def weigh(new: Sequence[Tenant]) -> int:
            _add(running, scratch, digest, new)
            send_all(asked, port, questions(new, texts[:1], 1))
            send_all(asked, port, large_requests(everybody[:1], texts))
            return tree_rss(running.server.process.pid)

        first = weigh(everybody[:1])
        base = weigh(everybody[1:few])
        grown = weigh(everybody[few:]) - base
        yield Ours(asked, port, first, grown / (many - few))


def _add(running: Bench, scratch: Path, digest: str, tenants: Sequence[Tenant]) -> None:
    for tenant in tenants:
        file = scratch / f"{tenant.name}.safetensors"
        write_adapter(tenant, digest, file)
        running.client.create_tenant(tenant.name)
        running.client.push(file, tenant.name, _ADAPTER, activate=True)
