"""Other people's clients against a real server process, as their users call them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from headstock.client import RequestFailed
from tests.integration.server import (
    Server,
    Tenant,
    infer,
    predict,
    running,
    upload,
    wait_until,
)
from tests.support import make_adapter_file

TEXTS = ["hello", "a longer text", "größer"]
MODEL = "acme.intents"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Tenant]]:
    with running(tmp_path_factory.mktemp("clients")) as (server, digest):
        tenant = server.add_tenant("acme")
        with server.http(tenant.key) as http:
            upload(http, "acme", "intents", make_adapter_file(backbone=digest))
        yield server, tenant


@pytest.mark.parametrize("is_binary", [False, True])
def test_tritonclient(served: tuple[Server, Tenant], is_binary: bool) -> None:
    server, tenant = served
    headers = {"Authorization": f"Bearer {tenant.key}"}
    with server.http(tenant.key) as http:
        expected = predict(http, "acme", "intents", TEXTS)["predictions"]
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL, headers=headers)
        assert client.get_server_metadata(headers)["name"] == "headstock"
        assert client.get_model_metadata(MODEL, headers=headers)["versions"] == ["1"]
        assert client.get_model_repository_index(headers)[0]["name"] == MODEL
        assert client.get_model_config(MODEL, headers=headers)["input"][0]["dims"] == []
        stats = client.get_inference_statistics(MODEL, "1", headers=headers)["model_stats"]
        assert stats[0]["inference_count"] >= len(TEXTS)
        with pytest.raises(InferenceServerException, match="no shared memory"):
            client.get_system_shared_memory_status(headers=headers)
        given = triton.InferInput("text", [len(TEXTS)], "BYTES")
        given.set_data_from_numpy(np.array(TEXTS, dtype=object), binary_data=is_binary)
        wanted = [
            triton.InferRequestedOutput(name, binary_data=is_binary)
            for name in ("label", "score", "scores")
        ]
        for version in ("", "1"):
            found = client.infer(MODEL, [given], version, wanted, "7", headers=headers)
            labels = [
                each.decode() if isinstance(each, bytes) else each
                for each in found.as_numpy("label")
            ]
            assert labels == [each["label"] for each in expected]
            assert found.as_numpy("score").tolist() == [each["score"] for each in expected]
            assert found.as_numpy("scores").shape == (len(TEXTS), 2)
            assert found.get_response()["id"] == "7"
        with pytest.raises(InferenceServerException, match="no tenant 'other'"):
            client.infer("other.intents", [given], headers=headers)


# In a process of its own: one process has one set of messages called `inference`, and that of
# tritonclient is not ours.
TRITON_GRPC = """
import json, sys
import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

address, key, model, texts = json.loads(sys.argv[1])
headers = {"authorization": f"Bearer {key}"}
with triton.InferenceServerClient(address) as client:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(model, headers=headers)
    assert client.get_server_metadata(headers).name == "headstock"
    assert list(client.get_model_metadata(model, headers=headers).versions) == ["1"]
    assert client.get_model_repository_index(headers).models[0].name == model
    assert client.get_model_config(model, headers=headers).config.max_batch_size > 0
    assert client.get_inference_statistics(headers=headers).model_stats[0].name == model
    try:
        client.get_trace_settings(headers=headers)
    except InferenceServerException as error:
        assert "OpenTelemetry" in error.message()
    given = triton.InferInput("text", [len(texts)], "BYTES")
    given.set_data_from_numpy(np.array(texts, dtype=object))
    wanted = [triton.InferRequestedOutput(name) for name in ("label", "score", "scores")]
    for version in ("", "1"):
        found = client.infer(model, [given], version, wanted, "7", headers=headers)
    assert found.get_response().id == "7"
    assert found.as_numpy("scores").shape == (len(texts), 2)
    try:
        client.infer("other.intents", [given], headers=headers)
    except InferenceServerException as error:
        refused = error.status(), error.message()
    labels = [each.decode() for each in found.as_numpy("label")]
    print(json.dumps([labels, found.as_numpy("score").tolist(), refused]))
"""


def test_tritonclient_over_grpc(served: tuple[Server, Tenant]) -> None:
    server, tenant = served
    with server.http(tenant.key) as http:
        expected = predict(http, "acme", "intents", TEXTS)["predictions"]
    what = json.dumps([f"127.0.0.1:{server.grpc_port}", tenant.key, MODEL, TEXTS])
    done = subprocess.run(
        [sys.executable, "-c", TRITON_GRPC, what], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    labels, scores, refused = json.loads(done.stdout)
    assert labels == [each["label"] for each in expected]
    assert scores == [each["score"] for each in expected]
    assert refused == ["StatusCode.NOT_FOUND", "no tenant 'other'"]


# In a process of its own: bentoml sets up logging, metrics and more where it is imported.
BENTOML = """
import json, sys
import bentoml

url, key, texts = json.loads(sys.argv[1])
with bentoml.SyncHTTPClient(url, token=key) as client:
    assert client.is_ready()
    found = client.predict(tenant="acme", adapter="intents", inputs=texts, top_k=2)
    refused = []
    for tenant, inputs in (("other", texts), ("acme", [])):
        try:
            client.predict(tenant=tenant, adapter="intents", inputs=inputs)
        except bentoml.exceptions.BentoMLException as error:
            refused.append(int(error.error_code))
with bentoml.SyncHTTPClient(url, token="nobody's") as client:
    try:
        client.predict(tenant="acme", adapter="intents", inputs=texts)
    except bentoml.exceptions.BentoMLException as error:
        refused.append(int(error.error_code))
print(json.dumps([found, refused]))
"""


def test_the_log_says_whose_a_refused_request_was(served: tuple[Server, Tenant]) -> None:
    server, tenant = served
    before = len(server.log())
    with server.http(tenant.key) as http:
        asked = {"tenant": "acme", "adapter": "nothing", "inputs": ["x"]}
        assert http.post("/predict", json=asked).status_code == 404
        embedded = http.post("/v1/embeddings", json={"model": "acme.none", "input": "x"})
        assert embedded.status_code == 404
    wait_until(lambda: len(server.events(before)) == 2, 5, "two lines")
    said = [(each["tenant"], each["adapter"]) for each in server.events(before)]
    assert said == [("acme", "nothing"), ("acme", "none")]


def test_what_is_asked_is_told_to_no_log(served: tuple[Server, Tenant]) -> None:
    server, tenant = served
    before = len(server.log())
    with server.http(tenant.key) as http:
        http.headers["X-Request-Id"] = "my-own.id"
        predict(http, "acme", "intents", ["confidential"])
        answer = http.post("/v1/embeddings", json={"model": MODEL, "input": "confidential"})
        assert answer.headers["x-request-id"] == "my-own.id"
        assert http.get("/confidential").headers["x-request-id"] == "my-own.id"
    with server.grpc() as channel:
        infer(channel, tenant.key, MODEL, ["confidential"])
    wait_until(lambda: len(server.events(before)) == 4, 5, "four lines")
    log = server.log()[before:]
    assert not [word for word in ("confidential", tenant.key.split("_")[2]) if word in log]
    first, second, unknown, call = server.events(before)
    assert first["request_id"] == second["request_id"] == unknown["request_id"] == "my-own.id"
    assert (unknown["route"], unknown["status"]) == ("unmatched", 404)
    for event in (first, call):
        assert (event["tenant"], event["adapter"], event["version"]) == ("acme", "intents", 1)
        assert event["key"] == tenant.key_id
        assert event["rows"] == 1
        assert event["tokens"] > 1
        assert 0 < event["queue_ms"] < event["ms"]
        assert 0 < event["compute_ms"] < event["ms"]


def test_reflection_finds_every_service(served: tuple[Server, Tenant]) -> None:
    """As grpcurl finds its way."""
    server, _ = served
    with server.grpc() as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        pool = DescriptorPool(database)
        found = pool.FindServiceByName("headstock.v1.Registry")
        assert found.FindMethodByName("Publish").input_type.fields_by_name["content"].number == 4
    assert services >= {
        "grpc.health.v1.Health",
        "headstock.v1.Registry",
        "inference.GRPCInferenceService",
    }


def test_bentomls_own_client(served: tuple[Server, Tenant], tmp_path: Path) -> None:
    server, tenant = served
    with server.http(tenant.key) as http:
        expected = predict(http, "acme", "intents", TEXTS)
    what = json.dumps([server.url, tenant.key, TEXTS])
    done = subprocess.run(
        [sys.executable, "-c", BENTOML, what],
        env={**os.environ, "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, refused = json.loads(done.stdout.splitlines()[-1])
    assert found["adapter"] == expected["adapter"]
    scores = [each["score"] for each in found["predictions"]]
    assert scores == [each["score"] for each in expected["predictions"]]
    assert [len(each["top"]) for each in found["predictions"]] == [2] * len(TEXTS)
    assert refused == [404, 422, 401]


def test_openai(served: tuple[Server, Tenant]) -> None:
    import openai  # a second and a half, and every process that runs tests imports this file

    server, tenant = served
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=tenant.key) as client:
        found = client.embeddings.create(model="tiny", input=TEXTS)
        plain = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
        assert [each.embedding for each in found.data] == [each.embedding for each in plain.data]
        assert found.usage.total_tokens == plain.usage.total_tokens > len(TEXTS)
        assert [each.id for each in client.models.list()] == ["tiny", MODEL]
        assert client.models.retrieve(MODEL).owned_by == "acme"
        with pytest.raises(openai.NotFoundError, match="no tenant 'other'"):
            client.models.retrieve("other.intents")
        with pytest.raises(openai.NotFoundError, match="there is no model"):
            client.embeddings.create(model="text-embedding-3-small", input="hello")
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-unknown") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.embeddings.create(model="tiny", input="hello")


def test_the_projects_own_client_embeds(served: tuple[Server, Tenant]) -> None:
    server, tenant = served
    with server.client(tenant.key) as client:
        plain = client.embed("tiny", TEXTS)
        assert client.embed("tiny", TEXTS, dimensions=8, input_type="query") == plain
        with pytest.raises(RequestFailed, match="has 8 dimensions, not 4"):
            client.embed("tiny", TEXTS, dimensions=4)


def test_curl(served: tuple[Server, Tenant]) -> None:
    server, tenant = served
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hello"]}
    key = f"Authorization: Bearer {tenant.key}"
    url = f"{server.url}/v2/models/{MODEL}/infer"
    command = ["curl", "-sf", "-H", key, url, "-d", json.dumps({"inputs": [tensor]})]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["model_name"] == MODEL
