"""The Open Inference Protocol over HTTP, beside the answers of `/predict`."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from adapters.manifest import TaskName
from tests.contract.support import ACME, Server
from tests.support import make_adapter_file

MODEL = "/v2/models/acme.intents"
TEXTS = ["hello", "a longer text", "größer"]


def infer_body(texts: list[str] = TEXTS, **more: Any) -> dict[str, Any]:
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return {"inputs": [tensor], **more}


def outputs_of(answer: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in answer["outputs"]}


async def test_server_and_model_describe_themselves(server: Server) -> None:
    key = server.keys["acme"]
    assert (await server.ok("GET", "/v2", key))["name"] == "headstock"
    assert await server.ok("GET", "/v2/health/live", None) == {"live": True}
    assert await server.ok("GET", "/v2/health/ready", None) == {"ready": True}
    assert await server.ok("GET", f"{MODEL}/ready", key) == {"name": "acme.intents", "ready": True}
    await server.publish(server.file(seed=5), activate=False)
    for path in (MODEL, f"{MODEL}/versions/2"):
        found = await server.ok("GET", path, key)
        assert found["versions"] == ["1", "2"]
        assert found["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        assert {each["name"]: each["shape"] for each in found["outputs"]} == {
            "label": [-1],
            "score": [-1],
            "scores": [-1, 2],
        }
        assert json.loads(found["properties"]["labels"]) == ["no", "yes"]


async def test_a_server_that_is_asked_to_stop_is_not_ready(server: Server) -> None:
    server.runtime.life.is_leaving = True
    assert (await server.call("GET", "/v2/health/ready", None)).status_code == 503
    assert await server.ok("GET", "/v2/health/live", None) == {"live": True}


async def test_answers_are_those_of_predict(server: Server) -> None:
    key = server.keys["acme"]
    expected = (await server.predict(*TEXTS))["predictions"]
    answer = await server.ok("POST", f"{MODEL}/infer", key, json=infer_body(id="17"))
    assert (answer["id"], answer["model_name"], answer["model_version"]) == (
        "17",
        "acme.intents",
        "1",
    )
    found = outputs_of(answer)
    assert list(found) == ["label", "score", "scores"]
    assert found["label"]["data"] == [each["label"] for each in expected]
    assert found["score"]["data"] == [each["score"] for each in expected]
    assert found["scores"]["shape"] == [3, 2]
    rows = np.reshape(found["scores"]["data"], (3, 2))
    assert rows.max(axis=1).tolist() == found["score"]["data"]
    assert [("no", "yes")[place] for place in rows.argmax(axis=1)] == found["label"]["data"]


async def test_null_is_what_is_left_out(server: Server) -> None:
    """MLServer's types write null for every field that has no value."""
    plain = await server.ok("POST", f"{MODEL}/infer", json=infer_body())
    nulls = infer_body(id=None, parameters=None, outputs=None)
    nulls["inputs"][0] |= {"parameters": None}
    assert await server.ok("POST", f"{MODEL}/infer", json=nulls) == plain
    named = infer_body(
        parameters={"headers": None, "content_type": None, "binary_data_output": None}
    )
    named["inputs"][0] |= {"parameters": {"content_type": None, "binary_data_size": None}}
    assert await server.ok("POST", f"{MODEL}/infer", json=named) == plain
    for parameters in (None, {"binary_data": None, "content_type": None, "headers": None}):
        named["outputs"] = [{"name": "label", "parameters": parameters}]
        (label,) = (await server.ok("POST", f"{MODEL}/infer", json=named))["outputs"]
        assert label in plain["outputs"]


async def test_outputs_that_are_named_are_all_that_comes(server: Server) -> None:
    body = infer_body(outputs=[{"name": "label"}], inputs_of_clients="are left alone")
    assert list(outputs_of(await server.ok("POST", f"{MODEL}/infer", json=body))) == ["label"]
    nested = infer_body()
    nested["inputs"][0] |= {"shape": [3, 1], "data": [[text] for text in TEXTS]}
    again = await server.ok("POST", f"{MODEL}/infer", json=nested)
    assert again == await server.ok("POST", f"{MODEL}/infer", json=infer_body())


async def test_binary_tensors_go_both_ways(server: Server) -> None:
    plain = outputs_of(await server.ok("POST", f"{MODEL}/infer", json=infer_body()))
    binary = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in TEXTS)
    tensor = {
        "name": "text",
        "shape": [3],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(binary)},
    }
    wanted = [
        {"name": "scores", "parameters": {"binary_data": True}},
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "score"},
    ]
    head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = await server.call("POST", f"{MODEL}/infer", content=head + binary, headers=headers)
    length = int(response.headers["inference-header-content-length"])
    found = outputs_of(json.loads(response.content[:length]))
    scores = response.content[length : length + found["scores"]["parameters"]["binary_data_size"]]
    assert np.frombuffer(scores, "<f4").tolist() == plain["scores"]["data"]
    rest, labels = response.content[length + len(scores) :], []
    while rest:
        (size,) = struct.unpack_from("<I", rest)
        labels.append(rest[4 : 4 + size].decode())
        rest = rest[4 + size :]
    assert labels == plain["label"]["data"]
    assert found["score"]["data"] == plain["score"]["data"]


async def test_a_version_may_be_asked_that_is_not_released(server: Server) -> None:
    before = await server.ok("POST", f"{MODEL}/infer", json=infer_body())
    await server.publish(server.file(seed=9))
    first, second, released = [
        await server.ok("POST", f"{MODEL}{path}/infer", json=infer_body())
        for path in ("/versions/1", "/versions/2", "")
    ]
    assert first == before
    assert second == released != first
    missing = await server.call("POST", f"{MODEL}/versions/3/infer", json=infer_body())
    assert missing.status_code == 404


async def test_every_task_has_its_outputs(server: Server) -> None:
    digest = server.backbone.digest
    wanted: dict[TaskName, list[str]] = {
        "multilabel": ["labels", "scores"],
        "regression": ["values"],
        "tagging": ["entities"],
    }
    for task, names in wanted.items():
        labels = ("O", "B-x", "I-x") if task == "tagging" else ("one", "two", "three")
        content = make_adapter_file(labels, task=task, backbone=digest)
        await server.publish(content, path=f"{ACME}/adapters/{task}")
        expected = (await server.predict(*TEXTS, path=f"{ACME}/adapters/{task}"))["predictions"]
        answer = await server.ok("POST", f"/v2/models/acme.{task}/infer", json=infer_body())
        found = outputs_of(answer)
        assert list(found) == names
        first = found[names[0]]["data"]
        if task == "regression":
            values = [[each["values"][label] for label in labels] for each in expected]
            assert np.reshape(first, (3, 3)).tolist() == values
        elif task == "tagging":
            assert list(map(json.loads, first)) == [each["entities"] for each in expected]
        else:
            applying = [[label["label"] for label in each["labels"]] for each in expected]
            assert list(map(json.loads, first)) == applying


async def test_the_index_is_of_the_keys_tenant(server: Server) -> None:
    path = "/v2/repository/index"
    own = {"name": "acme.intents", "version": "1", "state": "READY", "reason": ""}
    assert await server.ok("POST", path, server.keys["acme"]) == [own]
    assert await server.ok("POST", path, server.keys["acme"], json={"ready": None}) == [own]
    everything = await server.ok("POST", path, json={"ready": True})
    assert [each["name"] for each in everything] == ["acme.intents", "other.intents"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datatype": "FP32", "data": [1.0]}, "texts are BYTES"),
        ({"shape": [2]}, "2 by its shape"),
        ({"shape": [1, 2]}, r"has the shape"),
        ({"shape": [0], "data": []}, "has the shape"),
        ({"shape": [-1]}, "has the shape"),
        ({"data": [1]}, "must be texts"),
        ({"data": None}, "needs either data or"),
        ({"parameters": {"binary_data_size": 5}}, "needs either data or"),
        ({"data": None, "parameters": {"binary_data_size": 5}}, "0 bytes follow"),
        ({"data": None, "parameters": {"binary_data_size": True}}, "0 bytes follow"),
    ],
)
async def test_inputs_that_cannot_be_are_refused(
    server: Server, change: dict[str, Any], message: str
) -> None:
    body = infer_body(["hello"])
    body["inputs"][0] |= change
    response = await server.call("POST", f"{MODEL}/infer", json=body)
    assert response.status_code == 422
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    ("binary", "length"),
    [(b"\x05\0\0\0hell", None), (b"\x05\0", None), (b"\x02\0\0\0\xff\xfe", None), (b"", "99999")],
)
async def test_binary_data_that_is_torn_is_refused(
    server: Server, binary: bytes, length: str | None
) -> None:
    tensor = {
        "name": "text",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(binary)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": length or str(len(head))}
    response = await server.call("POST", f"{MODEL}/infer", content=head + binary, headers=headers)
    assert response.status_code == 422


async def test_names_that_are_no_model_are_not_found(server: Server) -> None:
    for name in ("acme", "acme.", ".intents", "acme.no", "no.intents", "a.b.c", "%0A.x", "ACME.x"):
        for call in (("GET", ""), ("GET", "/ready"), ("POST", "/infer")):
            path = f"/v2/models/{name}{call[1]}"
            response = await server.call(call[0], path, server.keys["acme"], json=infer_body())
            assert response.status_code == 404, name
    unknown = infer_body(outputs=[{"name": "logits"}])
    response = await server.call("POST", f"{MODEL}/infer", json=unknown)
    assert response.status_code == 422
    assert "the outputs of classification are label, score, scores" in response.json()["error"]


@pytest.mark.parametrize(
    "more",
    [
        {"outputs": [{"name": "scores"}] * 2},
        {"outputs": [{"name": "label"}, {"name": "scores"}, {"name": "label"}]},
        {"id": "x" * 1001},
    ],
)
async def test_an_answer_does_not_grow_by_what_was_sent(
    server: Server, more: dict[str, Any]
) -> None:
    refused = await server.call("POST", f"{MODEL}/infer", json=infer_body(**more))
    assert refused.status_code == 422
    assert len(refused.content) < 500
