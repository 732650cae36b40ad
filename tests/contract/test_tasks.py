"""Every task and head over HTTP, on a real backbone."""

from typing import Any

import numpy as np
import pytest

from adapters.adapter import Adapter, build_adapter, read_adapter
from adapters.answers import Answer
from adapters.manifest import HeadName, TaskName
from service.answers import to_prediction
from tests.contract.support import ACME, PREDICT, Server
from tests.support import PAIRS, make_adapter_file, make_manifest
from tests.tiny import WIDTH

INPUTS = ["Anna is in Oslo", "", "né 東京 🚀 x", "a longer text than the backbone takes"]
TAGS = ("O", "B-x", "I-x", "B-y", "I-y")


def adapter_file(server: Server, task: TaskName, head: HeadName = "linear", **more: Any) -> bytes:
    labels = TAGS if task == "tagging" else ("a", "b", "c")
    return make_adapter_file(
        labels, WIDTH, backbone=server.backbone.digest, task=task, head=head, **more
    )


def answer_alone(server: Server, adapter: Adapter, text: str, top_k: int) -> tuple[Answer, Any]:
    row = server.backbone.preprocess(text, with_spans=True)
    assert row.spans is not None
    name = adapter.manifest.feature
    feature = server.backbone.run([row], {name})[name][0]
    if adapter.per_token:
        feature = feature[row.spans.positions]
    return adapter.answer(feature, top_k), row.spans.characters


@pytest.mark.parametrize(("task", "head"), PAIRS)
async def test_every_kind_of_adapter_answers_as_it_does_alone(
    server: Server, task: TaskName, head: HeadName
) -> None:
    content = adapter_file(server, task, head)
    adapter = read_adapter(content)
    await server.publish(content)
    wanted = {"inputs": INPUTS, "top_k": 2}
    found = (await server.ok("POST", PREDICT, json=wanted))["predictions"]
    expected = []
    for text in INPUTS:
        answer, spans = answer_alone(server, adapter, text, 2)
        expected.append(to_prediction(answer, text, spans).model_dump())
    assert found == expected
    keys = {
        "classification": {"label", "score", "top"},
        "multilabel": {"labels", "top"},
        "regression": {"values"},
        "tagging": {"entities"},
    }
    assert all(set(each) == keys[task] for each in found)


async def test_entities_are_pieces_of_the_input(server: Server) -> None:
    """With a head that tags A as B-name, b and what the vocabulary lacks as I-name."""
    tags = {"A": "B-name", "b": "I-name", "東": "I-name", " ": "O", ".": "O"}
    labels = ("O", "B-name", "I-name")
    rows = [server.backbone.preprocess(character) for character in tags]
    tokens = server.backbone.run(rows, {"tokens"})["tokens"][:, 0]
    targets = 10.0 * np.eye(3)[[labels.index(tag) for tag in tags.values()]]
    weight = np.linalg.lstsq(tokens, targets)[0].T.astype(np.float32)
    tensors = {"head.weight": weight, "head.bias": np.zeros(3, dtype=np.float32)}
    manifest = make_manifest(labels, server.backbone.digest, "tagging")
    await server.publish(build_adapter(manifest, tensors, tokens))
    answer = await server.predict(". Ab東 A.", "...", " 京Ab")
    found = [
        [(each["label"], each["start"], each["end"], each["text"]) for each in row["entities"]]
        for row in answer["predictions"]
    ]
    assert found[0] == [("name", 2, 5, "Ab東"), ("name", 6, 7, "A")]
    assert found[1] == []
    assert found[2] == [("name", 1, 2, "京"), ("name", 2, 4, "Ab")]
    certain = 1 / (1 + 2 * np.exp(-10 / 0.8))
    for each in answer["predictions"][0]["entities"]:
        assert each["score"] == pytest.approx(certain, abs=1e-4)


async def test_a_tagger_on_a_feature_without_tokens_is_refused(server: Server) -> None:
    content = adapter_file(server, "tagging", feature="pooled")
    path = f"{ACME}/adapters/tags/versions"
    problem = await server.problem(422, "POST", path, content=content)
    assert problem["code"] == "invalid-adapter"
    assert "tagging takes one vector a token" in problem["detail"]


async def test_adapters_of_all_kinds_share_one_name_over_time(server: Server) -> None:
    """Another version may have another task: the answer follows the version."""
    for task in ("multilabel", "tagging", "regression", "classification"):
        published = await server.publish(adapter_file(server, task))
        answer = await server.predict("x", "y")
        assert answer["adapter"]["version"] == published["version"]
        assert len(answer["predictions"]) == 2


@pytest.mark.settings(max_scores=8)
async def test_an_answer_has_a_bounded_number_of_entities(server: Server) -> None:
    await server.publish(adapter_file(server, "tagging"))
    (found,) = (await server.predict("abcdefgh"))["predictions"]
    assert len(found["entities"]) == 8
    await server.predict("abcdefgh")
    wanted = {"inputs": ["abcdefgh"] * 2}
    problem = await server.problem(413, "POST", PREDICT, json=wanted)
    assert "16 entities were found" in problem["detail"]


async def test_the_document_describes_all_four(server: Server) -> None:
    items = server.document["components"]["schemas"]["PredictResponse"]["properties"][
        "predictions"
    ]["items"]
    names = [each["$ref"].rpartition("/")[2] for each in items["anyOf"]]
    kinds = ("Classification", "Multilabel", "Regression", "Tagging")
    assert names == [f"{kind}Prediction" for kind in kinds]
