"""BentoML's row."""

import json
import os
from collections.abc import Sequence

from benchmarks.peers.load import Request
from benchmarks.peers.peer import Place, Start, Tenant


class BentoML:
    """One service, one process, a session a tenant; metrics, access log and batching off."""

    folder = "bentoml"
    title = "BentoML, a full model a tenant"
    per_tenant = True

    def start(self, place: Place) -> Start:
        service = "benchmarks.peers.bentoml.service:Tenants"
        where = ("--host", "127.0.0.1", "--port", str(place.port))
        folders = os.pathsep.join(str(tenant.folder) for tenant in place.tenants)
        return Start(
            [str(place.programs / "bentoml"), "serve", service, *where],
            ["/readyz"],
            {"PEER_FOLDERS": folders, "BENTOML_HOME": str(place.scratch / "bentoml")},
        )

    def request(self, tenant: Tenant, texts: Sequence[str]) -> Request:
        body = {"tenant": tenant.name, "texts": list(texts)}
        return Request("/predict", json.dumps(body).encode())

    def labels(self, _tenant: Tenant, body: bytes) -> list[str]:
        labels: list[str] = json.loads(body)
        return labels
