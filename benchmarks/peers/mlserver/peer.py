"""MLServer's row."""

import json
from collections.abc import Sequence

from benchmarks.peers.load import Request
from benchmarks.peers.peer import Place, Start, Tenant


class MLServer:
    """A model a tenant in one inference process, MLServer's default; access log and batching off.

    Its adaptive batching joins the requests of one model alone, so of one tenant.
    """

    folder = "mlserver"
    title = "MLServer, a full model a tenant"
    per_tenant = True

    def start(self, place: Place) -> Start:
        models = place.scratch / "models"
        for tenant in place.tenants:
            described = {
                "name": tenant.name,
                "implementation": "benchmarks.peers.mlserver.service.Tenant",
                "parameters": {"uri": str(tenant.folder)},
            }
            (models / tenant.name).mkdir(parents=True)
            (models / tenant.name / "model-settings.json").write_text(json.dumps(described))
        http, grpc, metrics = place.ports
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": http,
            "grpc_port": grpc,
            "metrics_port": metrics,
            "use_structured_logging": False,
        }
        (models / "settings.json").write_text(json.dumps(settings))
        # Its own readiness does not wait for the models.
        ready = [f"/v2/models/{tenant.name}/ready" for tenant in place.tenants]
        return Start([str(place.programs / "mlserver"), "start", str(models)], ready)

    def request(self, tenant: Tenant, texts: Sequence[str]) -> Request:
        described = {
            "name": "texts",
            "shape": [len(texts), 1],
            "datatype": "BYTES",
            "parameters": {"content_type": "str"},
            "data": list(texts),
        }
        body = json.dumps({"inputs": [described]}).encode()
        return Request(f"/v2/models/{tenant.name}/infer", body)

    def labels(self, _tenant: Tenant, body: bytes) -> list[str]:
        labels: list[str] = json.loads(body)["outputs"][0]["data"]
        return labels
