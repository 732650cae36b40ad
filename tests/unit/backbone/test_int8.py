"""Int8: smoothing and zero points leave a product as it is, and take error where there is some."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from backbone import BackboneError
from backbone.runtime import open_session
from backbone.surgery.int8 import quantise
from backbone.surgery.smoothing import products_by_activation, smooth
from tests.tiny import INNER, SITES, WIDTH, write_tiny_model
from training.preparation import Preparation, best_preparation

random = np.random.default_rng(3)
POWERS = {
    x: np.exp2(random.integers(-3, 4, width)).astype(np.float32)
    for x, width in (("embedded", WIDTH), ("mixed", WIDTH), ("wide", INNER))
}


def tokens(model: onnx.ModelProto, folder: Path, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    file = folder / "run.onnx"
    onnx.save(model, str(file))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    value: NDArray[np.float32] = open_session(file).run(["last_hidden_state"], feeds)[0]
    return value


@pytest.fixture
def model(tmp_path: Path) -> onnx.ModelProto:
    model = onnx.load(str(write_tiny_model(tmp_path)))
    del model.graph.input[1]  # the mask, which nothing reads
    model.graph.input.add().CopyFrom(model.graph.input[0])
    model.graph.input[1].name = "attention_mask"
    return model


def test_activations_and_the_matrices_that_they_meet(model: onnx.ModelProto) -> None:
    assert products_by_activation(model) == {
        "embedded": ("layer.query.weight", "layer.value.weight"),
        "mixed": ("layer.up.weight",),
        "wide": ("down",),
    }


@pytest.mark.parametrize("length", [1, 5])
def test_a_smoothed_graph_computes_the_same(
    length: int, model: onnx.ModelProto, tmp_path: Path
) -> None:
    ids = random.integers(2, 90, (3, length))
    before = tokens(model, tmp_path, ids)
    smooth(model, POWERS)
    assert [node.op_type for node in model.graph.node].count("Mul") == len(POWERS)
    assert tokens(model, tmp_path, ids) == pytest.approx(before, abs=1e-6)
    assert not [each for each in model.graph.initializer if each.name in SITES]


def test_what_else_reads_the_activation_gets_it_as_it_was(model: onnx.ModelProto) -> None:
    smooth(model, {"mixed": POWERS["mixed"]})
    readers = {node.output[0]: list(node.input) for node in model.graph.node}
    assert readers["mixed/smooth"] == ["mixed", "mixed/smoothing"]
    assert readers["up"] == ["mixed/smooth", "mixed/layer.up.weight"]
    assert readers["query"] == ["embedded", "layer.query.weight"]


@pytest.mark.parametrize(
    "scales",
    [np.full(WIDTH, 3, np.float32), np.ones(WIDTH - 1, np.float32), np.zeros(WIDTH, np.float32)],
)
def test_scales_that_would_lose_bits_are_refused(
    scales: NDArray[np.float32], model: onnx.ModelProto
) -> None:
    with pytest.raises(BackboneError, match="8 channels of 'mixed' are smoothed by"):
        smooth(model, {"mixed": scales})


def test_an_outlier_channel_is_smoothed_and_int8_comes_nearer(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    ids = random.integers(2, 90, (6, 10))
    embedding = next(each for each in model.graph.initializer if each.name == "embedding")
    x = onnx.numpy_helper.to_array(embedding).copy()
    x[:, 3] *= 64
    embedding.CopyFrom(onnx.numpy_helper.from_array(x, "embedding"))
    names = products_by_activation(model)["embedded"]
    found = {each.name: each for each in model.graph.initializer}
    matrix = np.concatenate([onnx.numpy_helper.to_array(found[name]) for name in names], axis=1)
    scales = best_preparation(x, matrix).scales
    assert scales is not None
    assert scales.argmax() == 3
    exact = tokens(model, tmp_path, ids)
    plain, smoothed = onnx.ModelProto(), onnx.ModelProto()
    plain.CopyFrom(model)
    smoothed.CopyFrom(model)
    smooth(smoothed, {"embedded": scales})
    for each in (plain, smoothed):
        quantise(each)
    errors = [np.abs(tokens(each, tmp_path, ids) - exact).mean() for each in (plain, smoothed)]
    assert errors[1] < errors[0]


def test_nothing_is_smoothed_where_nothing_is_gained() -> None:
    even = random.choice([-1.0, 1.0], (50, 16)).astype(np.float32)
    assert best_preparation(even, even[:16]) == Preparation()
    assert best_preparation(np.zeros((4, 16), np.float32), even[:16]) == Preparation()
    assert best_preparation(np.full((4, 16), np.nan, np.float32), even[:16]) == Preparation()


def test_what_is_seldom_negative_gets_a_lower_zero_point() -> None:
    wave = random.standard_normal((50, 16)).astype(np.float32)
    gelu_like = np.maximum(wave, -0.05)
    assert best_preparation(gelu_like, wave[:16]).zero < 128
    assert best_preparation(wave, wave[:16]).zero == 128


@pytest.mark.parametrize("version", [17, 20])
@pytest.mark.parametrize("zero", [128, 24])
def test_no_zero_point_clips_and_zeros_stay_zeros(
    zero: int, version: int, model: onnx.ModelProto, tmp_path: Path
) -> None:
    model.opset_import[0].version = version
    embedding = next(each for each in model.graph.initializer if each.name == "embedding")
    x = onnx.numpy_helper.to_array(embedding).copy()
    x[5], x[6] = 0, -np.abs(x[6])
    embedding.CopyFrom(onnx.numpy_helper.from_array(x, "embedding"))
    ids = np.array([[5, 6, 7], [6, 6, 5]])
    exact = tokens(model, tmp_path, ids)
    quantise(model, {"embedded": zero})
    assert tokens(model, tmp_path, ids) == pytest.approx(exact, abs=0.2 if zero == 24 else 0.05)
    model.graph.output[0].name = "value"
    zeros = np.full((1, 2), 5)
    onnx.save(model, str(tmp_path / "value.onnx"))
    feeds = {"input_ids": zeros, "attention_mask": np.ones_like(zeros)}
    (value,) = open_session(tmp_path / "value.onnx").run(["value"], feeds)
    assert not np.any(value)


def test_gelu_is_approximated_only_where_int8_alone_reads_it(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Tanh":
            node.op_type = "Gelu"
    quantise(model)
    forms = {node.output[0]: node.attribute for node in model.graph.node if node.op_type == "Gelu"}
    assert not forms["active"]  # added to the value
    assert forms["wide"][0].s == b"tanh"


def test_after_a_gelu_a_lower_zero_point_clips_nothing(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    for node in model.graph.node:
        if node.op_type == "Tanh":
            node.op_type = "Gelu"
    ids = random.integers(2, 90, (6, 10))
    exact = tokens(model, tmp_path, ids)
    middle, lower = onnx.ModelProto(), onnx.ModelProto()
    middle.CopyFrom(model)
    lower.CopyFrom(model)
    quantise(middle)
    quantise(lower, {"wide": 24})
    assert "wide/size" not in {name for node in lower.graph.node for name in node.output}
    errors = [np.abs(tokens(each, tmp_path, ids) - exact).mean() for each in (middle, lower)]
    assert errors[1] < errors[0]
