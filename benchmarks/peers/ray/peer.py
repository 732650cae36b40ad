"""Ray Serve's rows: all tenants' models resident, and room for a quarter of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.load import Request
from benchmarks.peers.peer import Place, Start, Tenant


@dataclass(frozen=True, slots=True)
class RayServe:
    """One replica with multiplexing; a tenant's model is loaded when it is first asked."""

    resident: int
    tenants: int
    folder: str = "ray"

    @property
    def title(self) -> str:
        return f"Ray Serve, multiplexed, {self.resident} of {self.tenants} models resident"

    @property
    def per_tenant(self) -> bool:
        return self.resident == self.tenants  # else memory does not grow with tenants

    def start(self, place: Place) -> Start:
        root = place.tenants[0].folder.parent
        # Ray's sockets lie below this folder, and a socket's path is 107 characters at most.
        arguments = (str(place.port), str(self.resident), str(root), str(place.scratch))
        python = str(place.programs / "python")
        return Start([python, "-m", "benchmarks.peers.ray.service", *arguments], ["/-/healthz"])

    def request(self, tenant: Tenant, texts: Sequence[str]) -> Request:
        headers = {"serve_multiplexed_model_id": tenant.name}
        return Request("/", json.dumps(list(texts)).encode(), headers)

    def labels(self, _tenant: Tenant, body: bytes) -> list[str]:
        labels: list[str] = json.loads(body)
        return labels
