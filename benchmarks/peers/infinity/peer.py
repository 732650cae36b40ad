"""infinity-emb's row."""

import json
import shutil
from collections.abc import Sequence

import numpy as np
import onnx

from backbone.manifest import MODEL_FILE
from benchmarks.peers.load import Request
from benchmarks.peers.peer import Place, Start, Tenant
from headstock.demo import BACKBONE
from training.backbones import sources


class Infinity:
    """The encoder alone, on ONNX Runtime: vectors over HTTP, which a user has yet to classify."""

    folder = "infinity"
    title = "infinity-emb, the shared encoder alone"
    per_tenant = False

    def start(self, place: Place) -> Start:
        _write_model(place)
        # As ".": infinity hands optimum the graph's path, and optimum compares it to a bare name.
        options = (
            "--model-id", ".", "--served-model-name", "encoder",
            "--engine", "optimum", "--device", "cpu", "--dtype", "float32",
            "--pooling-method", "mean", "--no-model-warmup",
            "--host", "127.0.0.1", "--port", str(place.port),
        )  # fmt: skip
        # It keeps an optimized graph by the model's id, which would be another run's "." here.
        cache = {"HF_HOME": str(place.scratch / "cache")}
        return Start([str(place.programs / "infinity_emb"), "v2", *options], ["/health"], cache)

    def request(self, _tenant: Tenant, texts: Sequence[str]) -> Request:
        body = {"model": "encoder", "input": list(texts)}
        return Request("/embeddings", json.dumps(body).encode())

    def labels(self, tenant: Tenant, body: bytes) -> list[str]:
        rows = sorted(json.loads(body)["data"], key=lambda row: row["index"])
        vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
        return tenant.classify(vectors)


def _write_model(place: Place) -> None:
    """The model in Hugging Face's format, around the very graph that Headstock serves."""
    source = sources.resolve(BACKBONE, None).path
    shutil.copytree(source, place.scratch, dirs_exist_ok=True)
    model = onnx.load(place.backbone / MODEL_FILE)
    (tokens,) = (output for output in model.graph.output if output.name == "tokens")
    # The name under which optimum looks for it; the pooling is infinity's own.
    model.graph.node.append(onnx.helper.make_node("Identity", ["tokens"], ["last_hidden_state"]))
    del model.graph.output[:]
    tokens.name = "last_hidden_state"
    model.graph.output.append(tokens)
    onnx.save(model, place.scratch / MODEL_FILE)
