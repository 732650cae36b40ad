"""The layers of a graph as a feature, pooled as the last one is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from backbone import Backbone, BackboneError
from backbone.stability import random_factors
from backbone.surgery.features import keep_outputs
from backbone.surgery.pooling import Pooling, add_layers, add_pooling
from tests.tiny import (
    LAYERS,
    WIDTH,
    layered_draft,
    make_layered_backbone,
    make_tiny_backbone,
    tiny_weights,
    write_tiny_model,
)
from training.backbones.add import OnnxOptions, add_from_onnx
from training.backbones.packing import DEFAULT, Build, Draft, pack

TEXTS = ("where?", "a", "", "a longer text")


@pytest.fixture(scope="module", params=["fp32", "int8"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    build = Build(precision=request.param)
    return make_layered_backbone(tmp_path_factory.mktemp("tiny") / "backbones", build=build)


def packed(draft: Draft, folder: Path) -> Backbone:
    return pack(draft, DEFAULT, folder, "x", lambda _: None, lambda _: None, False).backbone


def test_each_layer_is_the_mean_of_its_tokens(backbone: Backbone) -> None:
    weights = tiny_weights()
    for text in TEXTS:
        row = backbone.preprocess(text)
        (layers,) = backbone.run([row], ["layers"])["layers"]
        embedded = weights["embedding"][row.ids]
        query, value = (embedded @ weights[f"layer.{name}.weight"] for name in ("query", "value"))
        mixed = np.tanh(query) + value
        within = 1e-6 if backbone.manifest.precision == "fp32" else 0.05
        assert layers.shape == (len(LAYERS), WIDTH)
        assert layers[0] == pytest.approx(embedded.mean(axis=0), abs=1e-6)  # no product before it
        assert layers[1] == pytest.approx(mixed.mean(axis=0), abs=within)


def test_the_last_layer_has_the_bits_of_pooled_and_lora_moves_those_behind_it(
    backbone: Backbone,
) -> None:
    rows = [backbone.preprocess(text) for text in TEXTS]
    sites = {"layer.query": backbone.manifest.sites["layer.query"]}
    placed = backbone.lora_pool(8).place(range(1, 9), random_factors(sites, 8, seed=0))
    plain = backbone.run(rows, ["layers", "pooled"])
    tuned = backbone.run(rows, ["layers", "pooled"], [placed] * len(rows))
    for found in (plain, tuned):
        assert np.array_equal(found["layers"][:, -1], found["pooled"])
    assert np.array_equal(plain["layers"][:, 0], tuned["layers"][:, 0])
    for layer in (1, 2):
        assert not np.array_equal(plain["layers"][:, layer], tuned["layers"][:, layer])


def test_all_else_is_as_without_layers(backbone: Backbone, tmp_path: Path) -> None:
    build = Build(precision=backbone.manifest.precision)
    plain = make_tiny_backbone(tmp_path / "backbones", build=build)
    assert backbone.digest != plain.digest
    assert (backbone.manifest.sites, backbone.manifest.lora) == (
        plain.manifest.sites,
        plain.manifest.lora,
    )
    rows = [backbone.preprocess(text) for text in TEXTS]
    for name, value in plain.run(rows, ["tokens", "pooled"]).items():
        assert np.array_equal(value, backbone.run(rows, [name])[name])


def test_of_a_first_token_each_layer_has_its_own(tmp_path: Path) -> None:
    draft = layered_draft(write_tiny_model(tmp_path))
    keep_outputs(draft.model, ("tokens",))
    add_pooling(draft.model, WIDTH, Pooling(("cls",)))
    add_layers(draft.model, LAYERS[:-1], WIDTH, Pooling(("cls",)))
    backbone = packed(draft, tmp_path / "backbones")
    rows = [backbone.preprocess(text) for text in TEXTS]
    found = backbone.run(rows, ["layers", "pooled", "tokens"])
    assert np.array_equal(found["layers"][:, -1], found["tokens"][:, 0])
    assert np.array_equal(found["layers"][:, -1], found["pooled"])
    first = [tiny_weights()["embedding"][row.ids[0]] for row in rows]
    assert np.array_equal(found["layers"][:, 0], np.stack(first))


def test_a_layer_that_neighbours_change_is_refused_though_the_last_is_stable(
    tmp_path: Path,
) -> None:
    file = write_tiny_model(tmp_path)
    model = onnx.load(str(file))
    node = helper.make_node
    model.graph.node.extend(
        [
            node("ReduceMean", ["embedded"], ["batch_mean"], keepdims=0),
            node("Sub", ["embedded", "batch_mean"], ["leaky"]),
        ]
    )
    onnx.save(model, str(file))
    with pytest.raises(BackboneError, match="feature 'layers' of a row changes by up to"):
        packed(layered_draft(file, ("leaky", "mixed")), tmp_path / "backbones")


def test_an_onnx_file_has_no_layers_to_tell(tmp_path: Path) -> None:
    file = write_tiny_model(tmp_path)
    with pytest.raises(BackboneError, match="--layers is for Hugging Face ids and folders"):
        add_from_onnx(file, OnnxOptions(), tmp_path, "x", lambda _: None, build=Build(layers=True))
