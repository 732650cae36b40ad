"""`/v1/embeddings` in OpenAI's shape: the backbone's own vectors, of unit length."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backbone import Backbone
from service.embedding import choose_prompt, to_unit_length
from tests.contract.support import ACME, Server, Template, make_template, serving
from tests.support import make_adapter_file
from tests.tiny import MARKED, SITES, WIDTH, make_marked_backbone

PATH = "/v1/embeddings"
TEXTS = ["hello", "a longer text", "größer"]
REMEDY = "check_embedding_ctx_length=False"


def decoded(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), "<f4")


def unit_vector(backbone: Backbone, text: str, prompt: str = "") -> NDArray[np.float32]:
    pooled = backbone.run([backbone.preprocess(text, prompt=prompt)], ["pooled"])["pooled"][0]
    found: NDArray[np.float32] = pooled / np.linalg.norm(pooled.astype(np.float64))
    return found.astype(np.float32)


@pytest.fixture(scope="module")
def marked_template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    template = make_template(tmp_path_factory.mktemp("marked"))
    make_marked_backbone(template.home / "backbones")
    return template


@pytest.fixture
async def marked(tmp_path: Path, marked_template: Template) -> AsyncIterator[Server]:
    async with serving(tmp_path, marked_template) as server:
        yield server


def marked_backbone(server: Server) -> Backbone:
    (found,) = (each for each in server.runtime.engines if each.backbone.name == MARKED)
    return found.backbone


async def test_vectors_are_those_of_the_backbone_at_unit_length(server: Server) -> None:
    key, backbone = server.keys["acme"], server.backbone
    rows = [backbone.preprocess(text) for text in TEXTS]
    expected = [unit_vector(backbone, text) for text in TEXTS]
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


async def test_what_clients_send_beside_the_input_changes_nothing(server: Server) -> None:
    body = {"model": server.backbone.name, "input": "hello"}
    answer = await server.ok("POST", PATH, json=body)
    width = len(answer["data"][0]["embedding"])
    for more in (
        {"encoding_format": None},
        {"dimensions": None},
        {"dimensions": width},
        {"user": "u-17", "input_type": "query"},
        {"user": None, "input_type": None},
    ):
        assert await server.ok("POST", PATH, json={**body, **more}) == answer


async def test_another_number_of_dimensions_is_refused_with_the_models_own(server: Server) -> None:
    body = {"model": server.backbone.name, "input": "hello", "dimensions": 2}
    refused = await server.problem(422, "POST", PATH, json=body)
    width = server.backbone.manifest.width("pooled")
    message = refused["error"]["message"]
    assert f"has {width} dimensions, not 2, and its vectors cannot be cut short" in message


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"input": []}, 422),
        ({"input": [1, 2]}, 422),
        ({"input": [[1, 2]]}, 422),
        ({"input": [[]]}, 422),
        ({"input": [1, "a"]}, 422),
        ({"input": [-1]}, 422),
        ({"input": [1.5]}, 422),
        ({"input": [True]}, 422),
        ({"input": [10**30]}, 422),
        ({"input": None}, 422),
        ({"input": {"text": "a"}}, 422),
        ({"input": [[1]] * 3000}, 413),
        ({"encoding_format": "int8"}, 422),
        ({"dimensions": 2}, 422),
        ({"dimensions": 0}, 422),
        ({"dimensions": "8"}, 422),
        ({"dimensions": 10**30}, 422),
        ({"input": ["x"] * 2049}, 413),
    ],
)
async def test_what_cannot_be_embedded_is_refused(
    server: Server, change: dict[str, Any], status: int
) -> None:
    body = {"model": server.backbone.name, "input": "hello", **change}
    await server.problem(status, "POST", PATH, json=body)


async def test_as_many_texts_as_openai_takes_are_embedded_at_once(server: Server) -> None:
    body = {"model": server.backbone.name, "input": ["x"] * 2048, "encoding_format": "base64"}
    assert len((await server.ok("POST", PATH, json=body))["data"]) == 2048


@pytest.mark.settings(max_vector_numbers=20)
async def test_an_answer_has_a_bounded_number_of_numbers(server: Server) -> None:
    most = 20 // server.backbone.manifest.width("pooled")
    body = {"model": server.backbone.name, "input": ["x"] * (most + 1)}
    refused = await server.problem(413, "POST", PATH, json=body)
    assert f"send at most {most} inputs" in refused["error"]["message"]
    await server.ok("POST", PATH, json={**body, "input": ["x"] * most})


async def test_a_key_to_publish_alone_embeds_nothing(server: Server) -> None:
    key = await server.new_key("acme", "publish")
    body = {"model": server.backbone.name, "input": "hello"}
    await server.problem(403, "POST", PATH, key, json=body)


def test_a_unit_vector_keeps_its_bits_and_zeros_stay_zeros() -> None:
    vectors = np.array([[3, 4, 0], [0.6, 0.8, 0], [0, 0, 0], [1e-30, 0, 0]], np.float32)
    found = to_unit_length(list(vectors), 3)
    assert np.array_equal(found[1], vectors[1])
    assert np.array_equal(found[0], vectors[1])
    assert found[2].tolist() == [0, 0, 0]
    assert found[3].tolist() == [1, 0, 0]
    assert to_unit_length(list(vectors[:2]), 1).tolist() == [[1], [1]]


async def test_vectors_are_cut_to_dimensions_that_the_model_was_trained_for(marked: Server) -> None:
    body = {"model": MARKED, "input": TEXTS}
    whole = (await marked.ok("POST", PATH, json=body))["data"]
    for dimensions in (2, 4, WIDTH):
        cut = (await marked.ok("POST", PATH, json={**body, "dimensions": dimensions}))["data"]
        for long, short in zip(whole, cut, strict=True):
            assert len(short["embedding"]) == dimensions
            assert np.linalg.norm(short["embedding"]) == pytest.approx(1, abs=1e-6)
            expected = np.array(long["embedding"][:dimensions])
            expected /= np.linalg.norm(expected)
            assert short["embedding"] == pytest.approx(expected.tolist(), abs=1e-6)
    refused = await marked.problem(422, "POST", PATH, json={**body, "dimensions": 3})
    assert (
        "can be cut to 2, 4; leave dimensions out or give 2, 4 or 8" in refused["error"]["message"]
    )


async def test_token_ids_of_the_backbone_stand_for_their_text(marked: Server) -> None:
    backbone = marked_backbone(marked)
    texts = ["hello", "a longer text"]
    ids = [backbone.preprocess(text).ids.tolist() for text in texts]
    body = {"model": MARKED}
    expected = await marked.ok("POST", PATH, json={**body, "input": texts})
    assert await marked.ok("POST", PATH, json={**body, "input": ids}) == expected
    one = await marked.ok("POST", PATH, json={**body, "input": ids[0]})
    assert one["data"] == expected["data"][:1]


async def test_other_token_ids_are_refused_with_the_clients_remedy(marked: Server) -> None:
    backbone = marked_backbone(marked)
    own = backbone.preprocess("hello").ids.tolist()
    for ids in (
        own[1:-1],  # without special tokens
        [*own, own[-1]],
        own[::-1],
        [15339, 1917],  # "hello world" by tiktoken
        [own[0], 1, own[-1]],  # a token that no text has
        backbone.preprocess("x" * 20).ids.tolist()[:-1] + [own[3]] * 9 + own[-1:],  # too long
    ):
        for given in (ids, [own, ids]):
            body = {"model": MARKED, "input": given}
            refused = await marked.problem(422, "POST", PATH, json=body)
            assert REMEDY in refused["error"]["message"]
            assert f"input {0 if given is ids else 1} is an array" in refused["error"]["message"]


async def test_a_tokenizer_that_marks_no_ends_has_no_ids_taken(server: Server) -> None:
    """Nothing would tell its ids from those of another tokenizer."""
    ids = server.backbone.preprocess("hello").ids.tolist()
    for given in (ids, [ids] * 2):
        body = {"model": server.backbone.name, "input": given}
        refused = await server.problem(422, "POST", PATH, json=body)
        assert REMEDY in refused["error"]["message"]


async def test_token_ids_by_the_thousand_are_refused_with_the_remedy_too(server: Server) -> None:
    body = {"model": server.backbone.name, "input": [[15339] * 200] * 1000}
    refused = await server.problem(413, "POST", PATH, json=body)
    assert REMEDY in refused["error"]["message"]


async def test_the_type_of_input_chooses_among_the_backbones_prompts(marked: Server) -> None:
    backbone = marked_backbone(marked)
    for kind, prompt in (
        ("query", "q: "),
        ("search_query", "q: "),
        ("document", "p: "),
        ("search_document", "p: "),
        ("passage", "p: "),
        ("classification", ""),
        (None, ""),
    ):
        body = {"model": MARKED, "input": TEXTS, "input_type": kind}
        found = (await marked.ok("POST", PATH, json=body))["data"]
        expected = [unit_vector(backbone, text, prompt).tolist() for text in TEXTS]
        assert [each["embedding"] for each in found] == expected, kind


def test_a_prompt_of_the_very_name_comes_first() -> None:
    prompts = {"document": "d", "passage": "p", "query": "", "corpus": "c"}
    assert choose_prompt(prompts, "passage") == "p"
    assert choose_prompt(prompts, "search_document") == "d"
    assert choose_prompt(prompts, "corpus") == "c"
    assert choose_prompt(prompts, "search_query") == ""
    assert choose_prompt(prompts, "clustering") is None
    assert choose_prompt({}, "query") is None
