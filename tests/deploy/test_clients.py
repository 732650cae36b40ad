"""Other people's clients in an environment of their own, against a real server."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbone.telemetry import OPT_OUTS
from benchmarks.peers.environment import make_environment
from tests.integration.server import ROOT, Server, Tenant, make_home, predict, upload
from tests.support import make_adapter_file
from tests.tiny import MARKED, WIDTH, make_marked_backbone

HERE = Path(__file__).parent / "clients"
TEXTS = ["hello world", "a longer text", "where is it?"]
MODEL = "acme.intents"
REMEDY = "check_embedding_ctx_length=False"
# LiteLLM would look up prices at its maker's. The vocabularies that tiktoken would load are in it.
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}


@pytest.fixture(scope="module")
def programs() -> Path:
    return make_environment(HERE / "requirements.txt", ROOT / "build" / "clients")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Tenant]]:
    home, digest = make_home(tmp_path_factory.mktemp("clients"))
    make_marked_backbone(home / "backbones")
    with Server(home) as server:
        tenant = server.add_tenant("acme")
        server.add_tenant("other")
        with server.http() as http:
            for name in ("acme", "other"):
                upload(http, name, "intents", make_adapter_file(backbone=digest))
        yield server, tenant


def ask(programs: Path, script: str, *what: object) -> dict[str, Any]:
    """What a script prints that speaks with the client in its own process."""
    (carried,) = programs.parent.glob("lib/*/site-packages/litellm/litellm_core_utils/tokenizers")
    done = subprocess.run(
        [str(programs / "python"), str(HERE / script), json.dumps(what)],
        env={**os.environ, **OPT_OUTS, **QUIET, "TIKTOKEN_CACHE_DIR": str(carried)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def check_vectors(server: Server, tenant: Tenant, found: Any, cut: Any) -> None:
    """Those of plain HTTP, and the same cut to four numbers, all of unit length."""
    with server.http(tenant.key) as http:
        body = {"model": MARKED, "input": TEXTS}
        answer = http.post("/v1/embeddings", json=body).raise_for_status().json()
    assert found == [each["embedding"] for each in answer["data"]]
    whole = np.array(found)
    assert whole.shape == (len(TEXTS), WIDTH)
    assert np.linalg.norm(whole, axis=1) == pytest.approx(1, abs=1e-6)
    shorter = whole[:, :4] / np.linalg.norm(whole[:, :4], axis=1, keepdims=True)
    assert np.abs(np.array(cut) - shorter).max() < 1e-6


def test_openai(programs: Path, served: tuple[Server, Tenant], tmp_path: Path) -> None:
    server, tenant = served
    backbone = make_marked_backbone(tmp_path / "backbones")
    ids = [backbone.preprocess(text).ids.tolist() for text in TEXTS]
    found = ask(programs, "ask_openai.py", f"{server.url}/v1", tenant.key, MARKED, ids, TEXTS)
    assert found["models"] == {MARKED: "headstock", "tiny": "headstock", MODEL: "acme"}
    assert "no tenant 'other'" in found["missing"]
    check_vectors(server, tenant, found["vectors"], found["cut"])


def test_langchain(programs: Path, served: tuple[Server, Tenant]) -> None:
    server, tenant = served
    models = [MODEL, MARKED]
    found = ask(programs, "ask_langchain.py", f"{server.url}/v1", tenant.key, models, TEXTS)
    assert len(found["refused"]) == 4  # one text and a thousand for each model
    assert all(REMEDY in message for message in found["refused"].values())
    check_vectors(server, tenant, found["vectors"][MARKED], found["cut"])


def test_litellm(programs: Path, served: tuple[Server, Tenant]) -> None:
    server, tenant = served
    found = ask(programs, "ask_litellm.py", f"{server.url}/v1", tenant.key, MARKED, TEXTS)
    assert "no tenant 'other'" in found["missing"]
    check_vectors(server, tenant, found["vectors"], found["cut"])


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_tritonclient(programs: Path, served: tuple[Server, Tenant], kind: str) -> None:
    server, tenant = served
    port = server.port if kind == "http" else server.grpc_port
    with server.http(tenant.key) as http:
        expected = predict(http, "acme", "intents", TEXTS)["predictions"]
        before = http.get(f"/v2/models/{MODEL}/stats").json()["model_stats"][0]
    script = f"ask_triton_{kind}.py"
    found = ask(programs, script, f"127.0.0.1:{port}", tenant.key, MODEL, TEXTS)
    assert found["labels"] == [each["label"] for each in expected]
    assert {"model_configuration", "statistics"} <= set(found["extensions"])
    assert found["config"]["name"] == MODEL
    assert found["config"]["input"][0]["data_type"] == "TYPE_STRING"
    scores = found["config"]["output"][2]
    assert (scores["name"], [int(each) for each in scores["dims"]]) == ("scores", [2])
    (stats,) = found["stats"]
    requests = 3  # plain, and compressed in two ways
    assert int(stats["inference_count"]) - before["inference_count"] == requests * len(TEXTS)
    success = int(stats["inference_stats"]["success"]["count"])
    assert success - before["inference_stats"]["success"]["count"] == requests
    assert [each["name"] for each in found["every"]] == [MODEL]
    for name, said in found["refused"].items():
        reason = {
            "shared memory": "no shared memory",
            "cuda": "no shared memory",
            "trace": "OpenTelemetry",
            "trace of a model": "OpenTelemetry",
            "log": "HEADSTOCK_LOG_LEVEL",
            "load": "set the release",
            "other": "no tenant 'other'",
        }[name]
        assert reason in said
    assert len(found["refused"]) == (7 if kind == "http" else 6)
