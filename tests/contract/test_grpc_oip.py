"""The Open Inference Protocol over gRPC: the answers of HTTP, in typed and in raw tensors."""

import asyncio
import struct
from typing import Any

import grpc
import pytest

from adapters.errors import Overloaded
from service.protos import inference_pb2 as pb
from tests.contract.grpc_support import BY_NAME, Rpc, raw
from tests.contract.support import ADMIN, INTENTS

MODEL = "acme.intents"
TEXTS = ("send it back", "where is it", "äöü 🙂")
BAD = grpc.StatusCode.INVALID_ARGUMENT


def infer(*texts: str, is_raw: bool = False, **more: Any) -> pb.ModelInferRequest:
    """Texts for acme's adapter; `more` replaces fields."""
    given = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)])
    fields: dict[str, Any] = {"model_name": MODEL, "inputs": [given]}
    if is_raw:
        fields["raw_input_contents"] = [raw(texts)]
    else:
        given.contents.bytes_contents.extend(text.encode() for text in texts)
    return pb.ModelInferRequest(**{**fields, **more})


async def test_the_server_describes_itself(rpc: Rpc) -> None:
    assert (await rpc.call("ServerLive", pb.ServerLiveRequest(), key=None)).live
    assert (await rpc.call("ServerReady", pb.ServerReadyRequest(), key=None)).ready
    found = await rpc.call("ServerMetadata", pb.ServerMetadataRequest())
    assert found.name == "headstock"
    assert (await rpc.server.ok("GET", "/v2")) == {
        "name": found.name,
        "version": found.version,
        "extensions": list(found.extensions),
    }
    rpc.server.runtime.life.is_leaving = True
    assert not (await rpc.call("ServerReady", pb.ServerReadyRequest(), key=None)).ready


async def test_a_model_describes_itself_as_over_http(rpc: Rpc) -> None:
    for version in ("", "1"):
        found = await rpc.call(
            "ModelMetadata", pb.ModelMetadataRequest(name=MODEL, version=version)
        )
        said = await rpc.server.ok("GET", f"/v2/models/{MODEL}")
        assert [found.name, found.platform, list(found.versions)] == [
            said["name"],
            said["platform"],
            said["versions"],
        ]
        assert dict(found.properties) == said["properties"]
        for mine, its in ((found.inputs, said["inputs"]), (found.outputs, said["outputs"])):
            listed = [[each.name, each.datatype, list(each.shape)] for each in mine]
            assert listed == [[each["name"], each["datatype"], each["shape"]] for each in its]
        ready = pb.ModelReadyRequest(name=MODEL, version=version)
        assert (await rpc.call("ModelReady", ready)).ready
    for version in ("2", "0", "-1", "x", "1 ", "9" * 30):
        for name, request in (
            ("ModelReady", pb.ModelReadyRequest(name=MODEL, version=version)),
            ("ModelMetadata", pb.ModelMetadataRequest(name=MODEL, version=version)),
            ("ModelInfer", infer("a", model_version=version)),
        ):
            await rpc.refusal(grpc.StatusCode.NOT_FOUND, name, request)


@pytest.mark.parametrize("is_raw", [False, True])
async def test_answers_are_those_of_http(rpc: Rpc, is_raw: bool) -> None:
    found = await rpc.call("ModelInfer", infer(*TEXTS, is_raw=is_raw, id="7"))
    assert (found.model_name, found.model_version, found.id) == (MODEL, "1", "7")
    assert [each.name for each in found.outputs] == ["label", "score", "scores"]
    assert [list(each.shape) for each in found.outputs] == [[3], [3], [3, 2]]
    assert [each.datatype for each in found.outputs] == ["BYTES", "FP32", "FP32"]
    content = {"inputs": [{"name": "text", "shape": [3], "datatype": "BYTES", "data": list(TEXTS)}]}
    said = await rpc.server.ok("POST", f"/v2/models/{MODEL}/infer", json=content)
    labels, scores, all_scores = (each["data"] for each in said["outputs"])
    if is_raw:
        assert not any(each.HasField("contents") for each in found.outputs)
        assert found.raw_output_contents[0] == raw(labels)
        assert list(struct.unpack("<3f", found.raw_output_contents[1])) == scores
        assert list(struct.unpack("<6f", found.raw_output_contents[2])) == all_scores
    else:
        assert not found.raw_output_contents
        assert [each.decode() for each in found.outputs[0].contents.bytes_contents] == labels
        assert list(found.outputs[1].contents.fp32_contents) == scores
        assert list(found.outputs[2].contents.fp32_contents) == all_scores


async def test_outputs_that_are_named_are_all_that_comes(rpc: Rpc) -> None:
    wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name="score")]
    found = await rpc.call("ModelInfer", infer("a", outputs=wanted))
    assert [each.name for each in found.outputs] == ["score"]
    wanted[0].name = "nothing"
    said = await rpc.refusal(BAD, "ModelInfer", infer("a", outputs=wanted))
    assert "'nothing'" in said
    await rpc.refusal(BAD, "ModelInfer", infer("a", outputs=wanted * 17))


async def test_a_column_of_texts_is_taken_too(rpc: Rpc) -> None:
    request = infer("a", "b")
    request.inputs[0].shape[:] = [2, 1]
    assert list((await rpc.call("ModelInfer", request)).outputs[0].shape) == [2]


async def test_many_texts_are_answered(rpc: Rpc) -> None:
    texts = [f"text number {number} " * 20 for number in range(300)]
    found = await rpc.call("ModelInfer", infer(*texts, is_raw=True))
    assert list(found.outputs[2].shape) == [300, 2]
    assert len(found.raw_output_contents[2]) == 4 * 600


def broken() -> dict[str, pb.ModelInferRequest]:
    """Requests that cannot be answered, each wrong in one thing."""
    several, wrong_shape, wrong_type = infer("a"), infer("a"), infer("a")
    several.inputs.append(several.inputs[0])
    wrong_shape.inputs[0].shape[:] = [2]
    wrong_type.inputs[0].datatype = "FP32"
    both = infer("a", raw_input_contents=[raw(["a"])])
    no_utf8 = infer("a", is_raw=True)
    no_utf8.raw_input_contents[0] = b"\x01\0\0\0\xff"
    cut, two = infer("abc", is_raw=True), infer("a", is_raw=True)
    cut.raw_input_contents[0] = cut.raw_input_contents[0][:-1]
    two.raw_input_contents.append(b"")
    no_shape, negative = infer("a"), infer("a")
    del no_shape.inputs[0].shape[:]
    negative.inputs[0].shape[:] = [-1]
    return {
        "no input": pb.ModelInferRequest(model_name=MODEL),
        "several inputs": several,
        "wrong shape": wrong_shape,
        "wrong type": wrong_type,
        "no shape": no_shape,
        "negative shape": negative,
        "contents and raw": both,
        "not UTF-8": no_utf8,
        "cut off": cut,
        "two raw": two,
        "no texts": infer(),
        "too many": infer(*["a"] * 2049),
        "too long": infer("a" * 100_001),
    }


@pytest.mark.parametrize("what", broken())
async def test_what_cannot_be_answered_is_refused(rpc: Rpc, what: str) -> None:
    await rpc.refusal(BAD, "ModelInfer", broken()[what])


async def test_the_index_is_of_the_keys_tenant(rpc: Rpc) -> None:
    acme = await rpc.call(
        "RepositoryIndex", pb.RepositoryIndexRequest(), key=rpc.server.keys["acme"]
    )
    (only,) = acme.models
    assert (only.name, only.version, only.state, only.reason) == (MODEL, "1", "READY", "")
    everything = await rpc.call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
    assert [each.name for each in everything.models] == [MODEL, "other.intents"]


async def test_a_released_version_answers_the_very_next_call(rpc: Rpc) -> None:
    await rpc.server.publish(rpc.server.file(seed=9, labels=("x", "y")), path=INTENTS)
    found = await rpc.call("ModelInfer", infer("a"))
    assert found.model_version == "2"
    assert found.outputs[0].contents.bytes_contents[0] in (b"x", b"y")
    older = await rpc.call("ModelInfer", infer("a", model_version="1"))
    assert older.model_version == "1"
    assert older.outputs[0].contents.bytes_contents[0] in (b"no", b"yes")


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute"])
async def test_a_minute_has_an_end(rpc: Rpc, limit: str) -> None:
    await rpc.server.ok("PUT", "/v1/tenants/acme/quota", json={limit: 1})
    await rpc.call("ModelInfer", infer("abc"))
    said = await rpc.refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "ModelInfer", infer("abc"))
    assert "a minute" in said


async def counted(rpc: Rpc, path: str, code: str) -> None:
    """Wait until a call has been counted, which it is after its answer."""
    async with asyncio.timeout(20):
        while not rpc.server.metric("grpc_requests_total", method=path, code=code):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_calls_are_counted_by_method_and_status(rpc: Rpc) -> None:
    await rpc.call("ModelInfer", infer("a"))
    await rpc.refusal(BAD, "ModelInfer", infer())
    await rpc.refusal(grpc.StatusCode.UNAUTHENTICATED, "ModelInfer", infer("a"), key="nobody's")
    path = BY_NAME["ModelInfer"].path
    for code in ("OK", "INVALID_ARGUMENT", "UNAUTHENTICATED"):
        await counted(rpc, path, code)
        assert rpc.server.metric("grpc_requests_total", method=path, code=code) == 1
    assert rpc.server.metric("grpc_request_seconds_count", method=path) == 3


async def test_methods_and_models_that_nobody_knows_leave_no_series(rpc: Rpc) -> None:
    unknown = pb.ModelReadyRequest(name="nobody.nothing")
    await rpc.refusal(grpc.StatusCode.NOT_FOUND, "ModelReady", unknown)
    await counted(rpc, BY_NAME["ModelReady"].path, "NOT_FOUND")
    before = rpc.server.runtime.metrics.render().count(b"\n")
    for number in range(50):
        path = f"/inference.GRPCInferenceService/Method{number}"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.channel.unary_unary(path, bytes, bytes)(b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        unknown = pb.ModelReadyRequest(name=f"nobody-{number}.nothing-{number}")
        await rpc.refusal(grpc.StatusCode.NOT_FOUND, "ModelReady", unknown)
    assert rpc.server.runtime.metrics.render().count(b"\n") == before


async def test_a_message_that_is_too_long_is_refused(rpc: Rpc) -> None:
    limit = rpc.server.runtime.settings.max_body_bytes
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc.call("ModelInfer", infer("a" * limit))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("more", [{"id": "x" * 1001}, {"outputs": ["label", "label"]}])
async def test_an_answer_does_not_grow_by_what_was_sent(rpc: Rpc, more: dict[str, Any]) -> None:
    request = infer("a")
    request.id = more.get("id", "")
    for name in more.get("outputs", ()):
        request.outputs.add(name=name)
    await rpc.refusal(grpc.StatusCode.INVALID_ARGUMENT, "ModelInfer", request)


async def test_a_message_is_charged_before_it_is_unpacked(rpc: Rpc) -> None:
    key = rpc.server.keys["acme"]
    await rpc.server.ok("PUT", "/v1/tenants/acme/quota", json={"requests_per_minute": 1})
    many = pb.ModelInferRequest(model_name="acme.intents", raw_input_contents=[b""] * 50_000)
    await rpc.refusal(grpc.StatusCode.INVALID_ARGUMENT, "ModelInfer", many, key=key)
    await rpc.refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "ModelInfer", many, key=key)
    await rpc.refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "ModelInfer", infer("a"))  # an operator's


@pytest.mark.parametrize("holder", ["acme", "admin"])
async def test_a_call_is_charged_once_whoever_sends_it(
    rpc: Rpc, holder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rpc.server.keys["acme"] if holder == "acme" else ADMIN
    await rpc.server.ok("PUT", "/v1/tenants/acme/quota", json={"requests_per_minute": 2})

    def full(*_: object) -> None:
        raise Overloaded("the server is full")

    with monkeypatch.context() as patch:  # what there is no room for costs nothing
        patch.setattr("service.pipeline.Pipeline.check_room", full)
        for _ in range(3):
            await rpc.refusal(grpc.StatusCode.UNAVAILABLE, "ModelInfer", infer("a"), key=key)
    for _ in range(2):
        await rpc.call("ModelInfer", infer("a"), key=key)
    await rpc.refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "ModelInfer", infer("a"), key=key)
