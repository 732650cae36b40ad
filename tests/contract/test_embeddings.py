"""`/v1/embeddings` in OpenAI's shape: the backbone's own vectors, to the bit."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract.support import ACME, Server, Template, serving
from tests.support import make_adapter_file
from tests.tiny import SITES

PATH = "/v1/embeddings"
TEXTS = ["hello", "a longer text", "größer"]


def decoded(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), "<f4")


async def test_vectors_are_those_of_the_backbone(server: Server) -> None:
    key, backbone = server.keys["acme"], server.backbone
    rows = [backbone.preprocess(text) for text in TEXTS]
    expected = [backbone.run([row], ["pooled"])["pooled"][0] for row in rows]
    body = {"model": backbone.name, "input": TEXTS}
    answer = await server.ok("POST", PATH, key, json=body)
    assert [each["index"] for each in answer["data"]] == [0, 1, 2]
    assert [each["embedding"] for each in answer["data"]] == [each.tolist() for each in expected]
    tokens = sum(row.length for row in rows)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    binary = await server.ok("POST", PATH, json={**body, "encoding_format": "base64"})
    for each, vector in zip(binary["data"], expected, strict=True):
        assert np.array_equal(decoded(each["embedding"]), vector)
    alone = await server.ok("POST", PATH, key, json={**body, "input": TEXTS[1]})
    assert [each["embedding"] for each in alone["data"]] == [expected[1].tolist()]


async def test_an_adapters_lora_is_in_its_vectors(server: Server) -> None:
    content = make_adapter_file(backbone=server.backbone.digest, sites=SITES, rank=4)
    await server.publish(content, path=f"{ACME}/adapters/tuned")
    key, found = server.keys["acme"], {}
    for model in (server.backbone.name, "acme.intents", "acme.tuned"):
        answer = await server.ok("POST", PATH, key, json={"model": model, "input": "hello"})
        assert answer["model"] == model
        found[model] = answer["data"][0]["embedding"]
    plain = found.pop(server.backbone.name)
    assert found["acme.intents"] == plain != found["acme.tuned"]


async def test_kept_features_are_the_same_vectors(tmp_path: Path, template: Template) -> None:
    async with serving(tmp_path, template, feature_cache_bytes=10**6) as server:
        await server.ok("PUT", f"{ACME}/feature-cache", json={"mode": "own"})
        body = {"model": "acme.intents", "input": TEXTS}
        first, second = [await server.ok("POST", PATH, json=body) for _ in range(2)]
        assert first == second
        assert server.metric("feature_cache_hits_total") == len(TEXTS)


@pytest.mark.parametrize("model", ["", "unknown", "other.intents", "nobody.intents", "acme.none"])
async def test_models_that_are_not_the_callers_are_not_found(server: Server, model: str) -> None:
    body = {"model": model, "input": "hello"}
    await server.problem(404, "POST", PATH, server.keys["acme"], json=body)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"input": []}, 422),
        ({"input": [1, 2]}, 422),
        ({"input": [[1, 2]]}, 422),
        ({"encoding_format": "int8"}, 422),
        ({"dimensions": 2}, 422),
        ({"input": ["x"] * 2000}, 413),
    ],
)
async def test_what_cannot_be_embedded_is_refused(
    server: Server, change: dict[str, Any], status: int
) -> None:
    body = {"model": server.backbone.name, "input": "hello", **change}
    await server.problem(status, "POST", PATH, json=body)


async def test_a_key_to_publish_alone_embeds_nothing(server: Server) -> None:
    key = await server.new_key("acme", "publish")
    body = {"model": server.backbone.name, "input": "hello"}
    await server.problem(403, "POST", PATH, key, json=body)
