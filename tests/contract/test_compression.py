"""Requests that are compressed are answered as those that are not, over HTTP and gRPC."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable

import grpc
import pytest

from service.grpc.methods import METHODS
from service.protos import inference_pb2 as pb
from service.protos import registry_pb2
from tests.contract.grpc_support import Rpc, raw, request_of, serving_grpc
from tests.contract.support import INTENTS, PREDICT, Server
from tests.contract.test_oip import MODEL, TEXTS, infer_body

Pack = Callable[[bytes], bytes]
CODINGS: dict[str, Pack] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}
BOMB = gzip.compress(bytes(64 * 2**20))  # 64 KB of 64 MB; a body has at most 8 MB


@pytest.fixture
async def rpc(server: Server) -> AsyncIterator[Rpc]:
    async with serving_grpc(server) as rpc:
        yield rpc


@pytest.mark.parametrize("coding", CODINGS)
async def test_every_kind_of_body_may_be_compressed(server: Server, coding: str) -> None:
    pack, headers = CODINGS[coding], {"Content-Encoding": coding}
    body = json.dumps({"inputs": TEXTS}).encode()
    expected = await server.predict(*TEXTS)
    key = server.keys["acme"]
    for packed in (pack(body), pack(b"\xef\xbb\xbf" + body), pack(body + b" " * 200_000)):
        found = await server.ok("POST", PREDICT, key, content=packed, headers=headers)
        assert found == expected

    plain = await server.ok("POST", f"{MODEL}/infer", json=infer_body())
    request = infer_body()
    tensor = request["inputs"][0]
    del tensor["data"]
    binary = raw(TEXTS)
    tensor["parameters"] = {"binary_data_size": len(binary)}
    described = json.dumps(request).encode()
    # As Triton's client: the length is that of the JSON before it was compressed.
    lengths = headers | {"Inference-Header-Content-Length": str(len(described))}
    packed = pack(described + binary)
    found = await server.ok("POST", f"{MODEL}/infer", key, content=packed, headers=lengths)
    assert found == plain

    file = server.file(seed=7)
    path = f"{INTENTS}/versions"
    first = await server.ok("POST", path, key, content=pack(file), headers=headers)
    again = await server.ok("POST", path, key, content=file)
    assert first["created"]
    assert not again["created"]
    assert again["digest"] == first["digest"]


@pytest.mark.parametrize(
    ("coding", "content", "status", "reason"),
    [
        ("br", b"anything", 415, "gzip, deflate"),
        ("zstd", b"anything", 415, "gzip, deflate"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}")), 415, "one Content-Encoding"),
        ("gzip", b'{"inputs": ["a"]}', 422, "not gzip"),
        ("deflate", gzip.compress(b"{}"), 422, "not deflate"),
        ("gzip", gzip.compress(b'{"inputs": ["a"]}')[:-1], 422, "cut off"),
        ("gzip", gzip.compress(b'{"inputs": ["a"]}') + b"{}", 422, "follow the end"),
        ("gzip", gzip.compress(b"no JSON"), 400, "not JSON"),
        ("gzip", BOMB, 413, "bytes"),
        ("deflate", zlib.compress(bytes(64 * 2**20)), 413, "bytes"),
    ],
)
async def test_what_cannot_be_unpacked_is_refused_with_its_reason(
    server: Server, coding: str, content: bytes, status: int, reason: str
) -> None:
    headers = {"Content-Encoding": coding}
    response = await server.call(
        "POST", PREDICT, server.keys["acme"], content=content, headers=headers
    )
    assert response.status_code == status
    assert reason in response.json()["detail"]
    assert ("accept-encoding" in response.headers) == (status == 415)


async def test_the_limit_of_an_upload_is_that_of_what_comes_out(server: Server) -> None:
    limit = server.runtime.settings.max_upload_bytes
    bomb = gzip.compress(bytes(limit + 1))
    headers = {"Content-Encoding": "gzip"}
    problem = await server.problem(
        413, "POST", f"{INTENTS}/versions", content=bomb, headers=headers
    )
    assert str(limit) in problem["detail"]


async def test_a_key_is_looked_at_before_anything_is_unpacked(server: Server) -> None:
    for coding in ("gzip", "br"):
        headers = {"Content-Encoding": coding}
        await server.problem(401, "POST", PREDICT, None, content=BOMB, headers=headers)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_compressed_message_is_answered_as_any_other(
    rpc: Rpc, compression: grpc.Compression
) -> None:
    request = pb.ModelInferRequest(model_name="acme.intents", id="x" * 500)
    request.inputs.add(name="text", datatype="BYTES", shape=[3])
    request.raw_input_contents.append(raw(TEXTS))
    expected = await rpc.call("ModelInfer", request)
    file = rpc.server.file(seed=8)
    upload = registry_pb2.PublishRequest(tenant="acme", adapter="intents", content=file)
    address = f"127.0.0.1:{rpc.served.port}"
    async with grpc.aio.insecure_channel(address, compression=compression) as channel:
        packing = Rpc(rpc.server, rpc.served, channel)
        assert await packing.call("ModelInfer", request) == expected
        assert (await packing.call("Publish", upload)).created
        for method in METHODS:
            if method.scope is None:
                await packing.call(method.name, request_of(method, "acme"), key=None)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_message_that_unpacks_beyond_its_limit_is_refused(
    rpc: Rpc, compression: grpc.Compression
) -> None:
    long = pb.ModelInferRequest(model_name="acme.intents", id="x" * 64 * 2**20)
    no_key = pb.ServerLiveRequest()
    no_key.MergeFromString(b"\x0a" + b"\xc0\x84\x3d" + bytes(1_000_000))  # a field that is unknown
    address = f"127.0.0.1:{rpc.served.port}"
    async with grpc.aio.insecure_channel(
        address, compression=compression, options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        packing = Rpc(rpc.server, rpc.served, channel)
        said = await packing.refusal(grpc.StatusCode.INVALID_ARGUMENT, "ModelInfer", long)
        assert "more than" in said
        await packing.refusal(grpc.StatusCode.INVALID_ARGUMENT, "ServerLive", no_key, key=None)
