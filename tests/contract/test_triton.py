"""Triton's extensions of the protocol: model configuration and statistics, over HTTP and gRPC."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from adapters.manifest import TaskName
from service.protos import inference_pb2 as pb
from tests.contract.grpc_support import Rpc
from tests.contract.support import ACME, INTENTS, Server, Template, serving
from tests.contract.test_grpc_oip import infer
from tests.contract.test_oip import MODEL, TEXTS, infer_body
from tests.support import make_adapter_file

TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}
STATS = f"{MODEL}/stats"


async def stats(server: Server, path: str = STATS, **options: Any) -> dict[str, Any]:
    found = (await server.ok("GET", path, **options))["model_stats"]
    return {f"{each['name']}:{each['version']}": each for each in found}


async def test_the_configuration_says_what_the_metadata_say(server: Server) -> None:
    tasks: tuple[TaskName, ...] = ("classification", "multilabel", "regression", "tagging")
    for task in tasks:
        content = make_adapter_file(task=task, backbone=server.backbone.digest)
        await server.publish(content, path=f"{ACME}/adapters/{task}")
        path = f"/v2/models/acme.{task}"
        metadata = await server.ok("GET", path, server.keys["acme"])
        for version in ("", "/versions/1"):
            config = await server.ok("GET", f"{path}{version}/config", server.keys["acme"])
            assert config["name"] == metadata["name"]
            assert config["max_batch_size"] == server.runtime.settings.max_inputs
            assert config["dynamic_batching"] == {}
            assert config["model_transaction_policy"] == {"decoupled": False}
            for one, many in (("input", "inputs"), ("output", "outputs")):
                for tensor, said in zip(config[one], metadata[many], strict=True):
                    assert tensor["name"] == said["name"]
                    assert tensor["data_type"] == TYPES[said["datatype"]]
                    assert [-1, *tensor["dims"]] == said["shape"]
            properties = {name: each["string_value"] for name, each in config["parameters"].items()}
            assert properties == metadata["properties"]


async def test_the_extensions_that_clients_look_for_are_named(server: Server) -> None:
    extensions = (await server.ok("GET", "/v2"))["extensions"]
    assert {"model_configuration", "statistics", "binary_tensor_data"} <= set(extensions)


async def test_statistics_count_what_was_asked(server: Server) -> None:
    before = (await stats(server))["acme.intents:1"]
    assert (before["inference_count"], before["last_inference"]) == (0, 0)
    await server.predict(*TEXTS)
    await server.ok("POST", f"{MODEL}/infer", json=infer_body(["one"]))
    await server.ok("POST", f"{MODEL}/infer", json=infer_body(["x"] * 100))
    found = (await stats(server, key=server.keys["acme"]))["acme.intents:1"]
    assert found["inference_count"] == len(TEXTS) + 1 + 100
    assert 3 <= found["execution_count"] <= len(TEXTS) + 1 + 100
    assert found["last_inference"] > 1_700_000_000_000
    times = found["inference_stats"]
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert times["success"]["count"] == 3
    assert all(times[part]["count"] == 3 for part in parts)
    assert 0 < sum(times[part]["ns"] for part in parts) <= times["success"]["ns"] + 10
    for part in ("fail", "cache_hit", "cache_miss"):
        assert times[part] == {"count": 0, "ns": 0}


async def test_batches_are_those_that_a_models_rows_were_in(server: Server) -> None:
    await server.predict("one")
    assert (await stats(server))["acme.intents:1"]["execution_count"] == 1
    runs = server.metric("backbone_seconds_count", backbone="tiny")
    await server.predict(*["x" * 16] * 64)
    runs = server.metric("backbone_seconds_count", backbone="tiny") - runs
    assert (await stats(server))["acme.intents:1"]["execution_count"] == 1 + runs > 2


async def test_requests_that_fail_are_counted_apart(tmp_path: Path, template: Template) -> None:
    async with serving(tmp_path, template, max_scores=2) as server:
        await server.problem(413, "POST", f"{INTENTS}/predict", json={"inputs": TEXTS})
        found = (await stats(server))["acme.intents:1"]
    assert found["inference_count"] == 0
    assert found["inference_stats"]["fail"]["count"] == 1
    assert found["inference_stats"]["success"]["count"] == 0


async def test_several_adapters_of_a_request_are_counted_each(server: Server) -> None:
    await server.publish(server.file(seed=4), path=f"{ACME}/adapters/topics")
    body = {"inputs": TEXTS, "adapters": ["intents", "topics"]}
    await server.ok("POST", f"{ACME}/predict", json=body)
    found = await stats(server, "/v2/models/stats", key=server.keys["acme"])
    counted = {name: each["inference_count"] for name, each in found.items()}
    assert counted == {"acme.intents:1": 3, "acme.topics:1": 3}


async def test_every_version_has_its_own_statistics(server: Server) -> None:
    await server.publish(server.file(seed=9))
    await server.ok("POST", f"{MODEL}/infer", json=infer_body())
    assert list(await stats(server)) == ["acme.intents:2"]
    await server.ok("POST", f"{MODEL}/versions/1/infer", json=infer_body(["x"]))
    counted = {name: each["inference_count"] for name, each in (await stats(server)).items()}
    assert counted == {"acme.intents:1": 1, "acme.intents:2": 3}
    one = await stats(server, f"{MODEL}/versions/1/stats")
    assert {name: each["inference_count"] for name, each in one.items()} == {"acme.intents:1": 1}
    assert (await server.call("GET", f"{MODEL}/versions/3/stats")).status_code == 404


async def test_statistics_of_all_models_are_of_the_keys_tenant(server: Server) -> None:
    await server.predict("one")
    key = server.keys["other"]
    assert list(await stats(server, "/v2/models/stats", key=key)) == ["other.intents:1"]
    everything = await stats(server, "/v2/models/stats")
    assert list(everything) == ["acme.intents:1", "other.intents:1"]


async def test_grpc_says_the_same(rpc: Rpc) -> None:
    await rpc.call("ModelInfer", infer("a", "b"))
    for version in ("", "1"):
        answer = await rpc.call(
            "ModelConfig", pb.ModelConfigRequest(name="acme.intents", version=version)
        )
        said = await rpc.server.ok("GET", f"{MODEL}/config")
        found = MessageToDict(answer.config, preserving_proto_field_name=True)
        assert answer.config.HasField("dynamic_batching")
        assert found["max_batch_size"] == said["max_batch_size"]
        assert found["parameters"] == said["parameters"]
        assert [each["data_type"] for each in found["output"]] == [
            each["data_type"] for each in said["output"]
        ]
        assert [list(each.dims) for each in answer.config.output] == [[], [], [2]]
    for name, count in (("acme.intents", 1), ("", 2)):
        answer = await rpc.call("ModelStatistics", pb.ModelStatisticsRequest(name=name))
        assert len(answer.model_stats) == count
        first = answer.model_stats[0]
        (said,) = (await stats(rpc.server)).values()
        assert (first.name, first.version) == (said["name"], said["version"])
        assert (first.inference_count, first.last_inference) == (2, said["last_inference"])
        times = said["inference_stats"]
        for part, its in times.items():
            duration = getattr(first.inference_stats, part)
            assert (duration.count, duration.ns) == (its["count"], its["ns"]), part


async def test_grpcs_statistics_are_of_the_keys_tenant(rpc: Rpc) -> None:
    key = rpc.server.keys["other"]
    answer = await rpc.call("ModelStatistics", pb.ModelStatisticsRequest(), key=key)
    assert [each.name for each in answer.model_stats] == ["other.intents"]
    for name in ("acme.intents", "nobody.intents", "x"):
        request = pb.ModelStatisticsRequest(name=name)
        await rpc.refusal(grpc.StatusCode.NOT_FOUND, "ModelStatistics", request, key=key)


ABSENT = {
    "/v2/systemsharedmemory/status": "no shared memory",
    "/v2/cudasharedmemory/region/x/register": "no shared memory",
    "/v2/trace/setting": "OpenTelemetry",
    "/v2/models/acme.intents/trace/setting": "OpenTelemetry",
    "/v2/logging": "HEADSTOCK_LOG_LEVEL",
    "/v2/repository/models/acme.intents/load": "set the release",
    "/v2/repository/models/acme.intents/unload": "set the release",
    "/v2/nothing": "no such path",
    "/v2/models/acme.intents/generate": "no such path",
}


@pytest.mark.parametrize("path", ABSENT)
async def test_what_is_not_spoken_is_refused_with_what_there_is(server: Server, path: str) -> None:
    for method in ("GET", "POST"):
        response = await server.call(method, path)
        assert response.status_code == 404
        assert ABSENT[path] in response.json()["error"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SystemSharedMemoryStatus", "no shared memory"),
        ("CudaSharedMemoryRegister", "no shared memory"),
        ("TraceSetting", "OpenTelemetry"),
        ("LogSettings", "HEADSTOCK_LOG_LEVEL"),
        ("RepositoryModelLoad", "set the release"),
        ("ModelStreamInfer", "call ModelInfer"),
        ("Nothing", "Method not found"),
    ],
)
async def test_grpc_refuses_it_too(rpc: Rpc, name: str, reason: str) -> None:
    path = f"/inference.GRPCInferenceService/{name}"
    asked = rpc.channel.stream_stream(path, bytes, bytes)(iter([b"x" * 100_000]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asked.read()
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert reason in (caught.value.details() or "")
