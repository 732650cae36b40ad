"""Int8 in a graph: smoothing and zero points leave each product nearly as it is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from backbone import BackboneError
from backbone.kernels import open_session
from backbone.surgery.int8 import approximate_gelu, quantise
from backbone.surgery.sites import constant_matrices
from backbone.surgery.smoothing import products_by_activation, smooth
from tests.tiny import INNER, SITES, WIDTH, change_weight, with_gelu, write_tiny_model

POWERS = {
    x: np.exp2(np.arange(width) % 7 - 3).astype(np.float32)
    for x, width in (("embedded", WIDTH), ("mixed", WIDTH), ("wide", INNER))
}


def ids_of(shape: tuple[int, int]) -> NDArray[np.int64]:
    return np.random.default_rng(3).integers(2, 90, shape)


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
    ids = ids_of((3, length))
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


@pytest.mark.parametrize("version", [17, 20])
@pytest.mark.parametrize("zero", [128, 24])
def test_no_zero_point_clips_and_zeros_stay_zeros(
    zero: int, version: int, model: onnx.ModelProto, tmp_path: Path
) -> None:
    model.opset_import[0].version = version

    def of_one_sign(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.vstack([embedding[:5], 0 * embedding[:1], -np.abs(embedding[6:])])

    change_weight(model, "embedding", of_one_sign)
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
    with_gelu(model)
    approximate_gelu(model)
    forms = {node.output[0]: node.attribute for node in model.graph.node if node.op_type == "Gelu"}
    assert not forms["active"]  # added to the value
    assert forms["wide"][0].s == b"tanh"


def test_gelu_stays_exact_where_a_subgraph_reads_it(model: onnx.ModelProto) -> None:
    with_gelu(model)
    branch = helper.make_graph([], "branch", [], [helper.make_empty_tensor_value_info("wide")])
    branches = {"then_branch": branch, "else_branch": branch}
    model.graph.node.append(helper.make_node("If", ["condition"], ["other"], **branches))
    approximate_gelu(model)
    assert not any(node.attribute for node in model.graph.node if node.op_type == "Gelu")


def test_after_a_gelu_a_lower_zero_point_clips_nothing(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    with_gelu(model)
    ids = ids_of((6, 10))
    exact = tokens(model, tmp_path, ids)
    middle, lower = onnx.ModelProto(), onnx.ModelProto()
    middle.CopyFrom(model)
    lower.CopyFrom(model)
    quantise(middle)
    quantise(lower, {"wide": 24})
    assert "wide/size" not in {name for node in lower.graph.node for name in node.output}
    errors = [np.abs(tokens(each, tmp_path, ids) - exact).mean() for each in (middle, lower)]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("scale", [4, 0.25])
def test_a_gelu_that_is_scaled_up_is_looked_at_below_zero_too(
    scale: float, model: onnx.ModelProto, tmp_path: Path
) -> None:
    with_gelu(model)
    ids = ids_of((6, 10))
    exact = tokens(model, tmp_path, ids)
    smooth(model, {"wide": np.resize(np.array([1, scale], np.float32), INNER)})
    quantise(model, {"wide/smooth": 24})
    computed = {name for node in model.graph.node for name in node.output}
    assert ("wide/smooth/size" in computed) is (scale < 1)
    assert tokens(model, tmp_path, ids) == pytest.approx(exact, abs=0.15)


def test_a_matrix_that_is_transposed_has_the_shape_that_its_product_reads(
    model: onnx.ModelProto,
) -> None:
    for matrix in constant_matrices(model).values():
        assert matrix.shape == matrix.array().shape


@pytest.mark.parametrize("zero", [0, 255])
def test_a_zero_point_without_steps_on_one_side_is_refused(
    zero: int, model: onnx.ModelProto
) -> None:
    with pytest.raises(
        BackboneError, match=f"zero point of 'mixed' is {zero}; int8 takes 1 to 254"
    ):
        quantise(model, {"mixed": zero})


def test_a_graph_of_an_old_opset_is_refused_with_what_to_do(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 12
    with pytest.raises(
        BackboneError, match=r"written in opset 12; int8 needs 13.*--precision fp32"
    ):
        quantise(model)


@pytest.mark.parametrize("version", [13, 17, 18, 20])
def test_every_opset_from_13_on_runs(version: int, model: onnx.ModelProto, tmp_path: Path) -> None:
    model.opset_import[0].version = version
    exact = tokens(model, tmp_path, ids_of((2, 4)))
    quantise(model)
    assert model.opset_import[0].version == (21 if version >= 18 else version)
    assert tokens(model, tmp_path, ids_of((2, 4))) == pytest.approx(exact, abs=0.1)
