"""Inputs that are longer than the backbone reads: each answer says which were cut."""

from pathlib import Path

import pytest

from service.protos import inference_pb2 as pb
from tests.contract.grpc_support import Rpc
from tests.contract.support import ACME, PREDICT, Server, Template, serving
from tests.contract.test_grpc_oip import infer
from tests.contract.test_oip import infer_body
from tests.tiny import MAX_LENGTH

LONG = "x " * 10 * MAX_LENGTH
MIXED = ["short", LONG, "", LONG + "y"]
CUT = [1, 3]
INFER = "/v2/models/acme.intents/infer"


async def test_a_prediction_names_the_inputs_that_were_cut(server: Server) -> None:
    assert (await server.predict(*MIXED))["truncated"] == CUT
    assert (await server.predict("short"))["truncated"] == []


async def test_the_length_that_is_just_read_is_not_cut(server: Server) -> None:
    text = "x" * MAX_LENGTH  # of one token each
    assert server.backbone.preprocess(text).length == MAX_LENGTH
    assert (await server.predict(text, f"{text}x"))["truncated"] == [1]


@pytest.mark.parametrize("place", range(3))
async def test_neighbours_of_a_request_change_nothing(server: Server, place: int) -> None:
    texts = ["short"] * 3
    texts[place] = LONG
    assert (await server.predict(*texts))["truncated"] == [place]


async def test_each_result_of_a_fan_out_says_it(server: Server) -> None:
    await server.publish(server.file(seed=5), path=f"{ACME}/adapters/mood")
    wanted = {"adapters": ["intents", "mood"], "inputs": MIXED}
    answer = await server.ok("POST", f"{ACME}/predict", json=wanted)
    assert [each["truncated"] for each in answer["results"]] == [CUT, CUT]


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_name_the_inputs_that_were_cut(server: Server, encoding: str) -> None:
    wanted = {"model": "tiny", "input": MIXED, "encoding_format": encoding}
    assert (await server.ok("POST", "/v1/embeddings", json=wanted))["truncated"] == CUT


async def test_the_open_inference_protocol_counts_them(server: Server) -> None:
    answer = await server.ok("POST", INFER, json=infer_body(MIXED))
    assert answer["parameters"] == {"truncated_inputs": 2}
    assert "parameters" not in await server.ok("POST", INFER, json=infer_body(["short"]))


@pytest.mark.parametrize("is_raw", [False, True])
async def test_grpc_counts_them(rpc: Rpc, is_raw: bool) -> None:
    found = await rpc.call("ModelInfer", infer(*MIXED, is_raw=is_raw))
    assert dict(found.parameters) == {"truncated_inputs": pb.InferParameter(int64_param=2)}
    assert not (await rpc.call("ModelInfer", infer("short", is_raw=is_raw))).parameters


async def test_what_the_cache_knows_is_told_as_cut_too(tmp_path: Path, template: Template) -> None:
    async with serving(tmp_path, template, feature_cache_bytes=10**6) as server:
        await server.ok("PUT", f"{ACME}/feature-cache", json={"mode": "own"})
        for _ in range(2):
            assert (await server.predict(*MIXED))["truncated"] == CUT
        assert server.metric("feature_cache_hits_total") == len(MIXED)


async def test_usage_and_metrics_count_them(server: Server) -> None:
    for _ in range(2):
        await server.predict(*MIXED, key=server.keys["acme"])
    await server.problem(422, "POST", PREDICT, json={"inputs": [LONG], "top_k": 0})
    await server.predict("short", path="/v1/tenants/other/adapters/intents")
    assert (await server.ok("GET", f"{ACME}/usage"))["truncated"] == 4
    assert (await server.ok("GET", "/v1/tenants/other/usage"))["truncated"] == 0
    assert server.metric("truncated_inputs_total", backbone=server.backbone.name) == 4
    assert server.metric("tenant_truncated_total", tenant="acme") == 4
