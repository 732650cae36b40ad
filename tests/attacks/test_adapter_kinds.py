"""Hostile adapter files of every task and head, with and without LoRA: each is refused."""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adapters.adapter import read_adapter
from adapters.container import read_container, write_container
from adapters.errors import InvalidAdapter
from tests.attacks.support import set_item
from tests.support import PAIRS, SITES, Tensors, make_adapter_file

# Each case changes the manifest or the tensors.
Change = Callable[[dict[str, Any], Tensors], object]


def changed_file(change: Change, **kind: Any) -> bytes:
    """A good file of that kind, changed and then packed as a writer packs it."""
    text, views = read_container(make_adapter_file(**kind))
    manifest, tensors = json.loads(text), {name: view.copy() for name, view in views.items()}
    change(manifest, tensors)
    return write_container(json.dumps(manifest), tensors)


def in_manifest(*path: str | int, value: Any) -> Change:
    return lambda manifest, _: set_item(*path, value=value)(manifest)


def in_tensors(name: str, value: Any) -> Change:
    return lambda _, tensors: set_item(name, value=np.asarray(value, dtype=np.float32))(tensors)


def lora_site(name: str) -> Change:
    def change(manifest: dict[str, Any], tensors: Tensors) -> None:
        manifest["lora"]["sites"][0] = name
        for part in "ab":
            tensors[f"lora.{name}.{part}"] = tensors.pop(f"lora.layer.0.query.{part}")

    return change


MLP, CENTROID, KNN = {"head": "mlp"}, {"head": "centroid"}, {"head": "knn"}
MULTI, TAGGING, LORA = {"task": "multilabel"}, {"task": "tagging"}, {"sites": SITES}
REGRESSION = {"task": "regression"}
KINDS: dict[str, tuple[dict[str, Any], Change, str]] = {
    "unknown task": ({}, in_manifest("task", value="generation"), "task"),
    "head of another task": (REGRESSION, in_manifest("head", value="knn"), "cannot do regression"),
    "hidden layers that differ": (
        MLP,
        in_tensors("head.hidden.bias", np.ones(4)),
        r"'head.hidden.bias' has shape \[4\].*need \[5\]",
    ),
    "hidden layer of another width": (
        MLP,
        in_tensors("head.hidden.weight", np.ones((5, 7))),
        r"need \[5, 8\]",
    ),
    "hidden layer of one dimension": (
        MLP,
        in_tensors("head.hidden.weight", np.ones(5)),
        r"has shape \[5\]",
    ),
    "huge hidden layer": (
        MLP,
        in_tensors("head.hidden.weight", np.ones((4097, 8))),
        "4097 hidden units; 4096 are allowed",
    ),
    "mlp without hidden layer": (
        MLP,
        lambda _, tensors: tensors.pop("head.hidden.weight"),
        r"missing: \['head.hidden.weight'\]",
    ),
    "linear with hidden layer": (
        {},
        in_tensors("head.hidden.weight", np.ones((5, 8))),
        r"unknown: \['head.hidden.weight'\]",
    ),
    "centroid too many": (
        CENTROID,
        in_tensors("head.centroids", np.ones((3, 8))),
        r"need \[2, 8\]",
    ),
    "centroid scale zero": (CENTROID, in_manifest("centroid", "scale", value=0), "centroid.scale"),
    "centroid scale huge": (
        CENTROID,
        in_manifest("centroid", "scale", value=1e300),
        "centroid.scale",
    ),
    "centroid metric unknown": (
        CENTROID,
        in_manifest("centroid", "metric", value="dot"),
        "centroid.metric",
    ),
    "centroid key unknown": (CENTROID, in_manifest("centroid", "k", value=1), "centroid.k"),
    "k larger than rows": (KNN, in_manifest("knn", "k", value=13), "k is 13, and 12 vectors"),
    "k zero": (KNN, in_manifest("knn", "k", value=0), "knn.k"),
    "k a boolean": (KNN, in_manifest("knn", "k", value=True), "knn.k"),
    "k huge": (KNN, in_manifest("knn", "k", value=2**62), "knn.k"),
    "scale negative": (KNN, in_manifest("knn", "scale", value=-1.0), "knn.scale"),
    "label number too large": (
        KNN,
        in_tensors("head.vector_labels", np.full(12, 2)),
        "whole, from 0 to 1",
    ),
    "label number negative": (
        KNN,
        in_tensors("head.vector_labels", np.full(12, -1)),
        "whole, from 0 to 1",
    ),
    "label number broken": (
        KNN,
        in_tensors("head.vector_labels", np.full(12, 0.5)),
        "whole, from 0 to 1",
    ),
    "label numbers too few": (
        KNN,
        in_tensors("head.vector_labels", np.ones(11)),
        r"need \[12\]",
    ),
    "stored vectors of another width": (
        KNN,
        in_tensors("head.vectors", np.ones((12, 9))),
        r"need \[12, 8\]",
    ),
    "thresholds missing": (MULTI, lambda manifest, _: manifest.pop("thresholds"), "needs it"),
    "thresholds NaN": (MULTI, in_manifest("thresholds", 0, value=float("nan")), "NaN is not JSON"),
    "threshold above one": (MULTI, in_manifest("thresholds", 0, value=1.01), "thresholds.0"),
    "threshold negative": (MULTI, in_manifest("thresholds", 0, value=-0.1), "thresholds.0"),
    "thresholds too many": (MULTI, in_manifest("thresholds", value=[0.5] * 3), "3 for 2 labels"),
    "thresholds where none belong": (
        {},
        in_manifest("thresholds", value=[0.5, 0.5]),
        "classification has none",
    ),
    "values of another size": (
        REGRESSION,
        lambda _, tensors: tensors.update({"golden.scores": tensors["golden.scores"] * 1.01}),
        "golden row 0.*differ",
    ),
    "values at the ends of float32": (
        REGRESSION,
        lambda _, tensors: tensors.update(
            {
                "golden.scores": np.full((3, 2), -3e38, dtype=np.float32),
                "head.bias": np.full(2, 3e38, dtype=np.float32),
            }
        ),
        "golden row 0.*differ",
    ),
    "tags without O": (TAGGING, in_manifest("labels", value=["B-x", "I-x", "B-y"]), "needs 'O'"),
    "tags that are none": (TAGGING, in_manifest("labels", value=["O", "x", "I-x"]), "is no tag"),
    "tag with a line end": (TAGGING, in_manifest("labels", value=["O", "B-\n", "I-x"]), "label"),
    "mix of one layer": ({}, in_manifest("mix", value=[1.0]), "mix"),
    "mix of no layer": ({}, in_manifest("mix", value=[]), "mix"),
    "mix of 257 layers": ({}, in_manifest("mix", value=[1.0] * 257), "mix"),
    "mix of a million layers": ({}, in_manifest("mix", value=[1] * 10**6), "values and keys"),
    "mix of 1,000 layers": ({}, in_manifest("mix", value=[1] * 1000), "mix"),
    "mix of a number": ({}, in_manifest("mix", value=1.0), "mix"),
    "mix of texts": ({}, in_manifest("mix", value=["1", "2"]), "mix.0"),
    "mix of truths": ({}, in_manifest("mix", value=[True, False]), "mix.0"),
    "mix of nothing": ({}, in_manifest("mix", value=[1.0, None]), "mix.1"),
    "mix with NaN": ({}, in_manifest("mix", value=[1.0, float("nan")]), "NaN is not JSON"),
    "mix without end": ({}, in_manifest("mix", value=[1.0, float("inf")]), "not JSON"),
    "mix beyond float32": ({}, in_manifest("mix", value=[1.0, 1e39]), "mix.1"),
    "mix below float32": ({}, in_manifest("mix", value=[-1e39, 1.0]), "mix.0"),
    "mix of tokens": (TAGGING, in_manifest("mix", value=[1.0, 1.0]), "tagging has none"),
    "LoRA rank 0": (LORA, in_manifest("lora", "rank", value=0), "lora.rank"),
    "LoRA rank 65": (LORA, in_manifest("lora", "rank", value=65), "lora.rank"),
    "LoRA of another rank": (LORA, in_manifest("lora", "rank", value=3), r"rank 3.*\[3, width\]"),
    "LoRA with a part missing": (
        LORA,
        lambda _, tensors: tensors.pop("lora.layer.0.query.b"),
        r"missing: \['lora.layer.0.query.b'\]",
    ),
    "LoRA with a part too many": (
        LORA,
        in_tensors("lora.layer.1.query.b", np.ones((2, 8))),
        r"unknown: \['lora.layer.1.query.b'\]",
    ),
    "LoRA that the manifest hides": (
        LORA,
        lambda manifest, _: manifest.pop("lora"),
        "unknown: .*lora",
    ),
    "LoRA of three dimensions": (
        LORA,
        in_tensors("lora.layer.0.query.a", np.ones((2, 8, 1))),
        r"shape \[2, 8, 1\]",
    ),
    "LoRA not finite": (
        LORA,
        in_tensors("lora.layer.0.query.a", np.full((2, 8), np.nan)),
        "NaN or infinite",
    ),
    "LoRA without sites": (LORA, in_manifest("lora", "sites", value=[]), "lora.sites"),
    "LoRA site twice": (
        LORA,
        in_manifest("lora", "sites", value=["layer.0.query"] * 2),
        "sites are distinct",
    ),
    "LoRA site without name": (LORA, lora_site(""), "1 to 200 printable"),
    "LoRA site of 201": (LORA, lora_site("s" * 201), "1 to 200 printable"),
    "LoRA site with a line end": (LORA, lora_site("a\nb"), "1 to 200 printable"),
    "LoRA site that turns text around": (LORA, lora_site("a\u202eb"), "1 to 200 printable"),
    "LoRA site with half a character": (
        LORA,
        in_manifest("lora", "sites", 0, value="\ud800"),
        "manifest is not valid",
    ),
    "LoRA at 255 sites": (
        LORA,
        in_manifest("lora", "sites", value=[f"s{n}" for n in range(255)]),
        "lora.sites",
    ),
    "LoRA with alpha": (LORA, in_manifest("lora", "alpha", value=16), "lora.alpha"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_hostile_file_of_every_kind_is_refused_with_its_reason(name: str) -> None:
    kind, change, reason = KINDS[name]
    content = changed_file(change, **kind)
    started = time.perf_counter()
    with pytest.raises(InvalidAdapter, match=reason) as caught:
        read_adapter(content)
    assert time.perf_counter() - started < 5
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("task", "head"), PAIRS)
def test_an_unchanged_file_of_every_kind_is_good(task: Any, head: Any) -> None:
    """Else the cases above could be refused for what all of them have."""
    for sites in (None, SITES):
        content = changed_file(lambda *_: None, task=task, head=head, sites=sites)
        assert read_adapter(content).manifest.task == task
