"""How activations are prepared for int8: only where it takes error, and never for a worse."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from backbone import Backbone
from backbone.kernels import open_session
from backbone.samples import SAMPLE_TEXTS
from backbone.surgery.int8 import quantise
from backbone.surgery.smoothing import smooth, smoothed
from tests.tiny import change_weight, with_gelu, write_tiny_model
from training.backbones import packing
from training.backbones.add import OnnxOptions, add_from_onnx
from training.backbones.packing import Build
from training.backbones.preparation import Preparation, best_preparation, prepare_and_quantise

Matrix = NDArray[np.float32]


def normal(rows: int, columns: int) -> Matrix:
    return np.random.default_rng(3).standard_normal((rows, columns)).astype(np.float32)


def error(x: Matrix, matrix: Matrix, prepared: Preparation, folder: Path) -> float:
    """The error of the int8 product by what ONNX Runtime computes, relative to its length."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [info("x", TensorProto.FLOAT, ["n", "t", len(matrix)])],
        [info("y", TensorProto.FLOAT, ["n", "t", matrix.shape[1]])],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    scales = {} if prepared.scales is None else {"x": prepared.scales}
    smooth(model, scales)
    quantise(model, {smoothed("x") if scales else "x": prepared.zero})
    onnx.save(model, str(folder / "product.onnx"))
    (y,) = open_session(folder / "product.onnx").run(["y"], {"x": x[None]})
    return float(np.linalg.norm(y[0] - x @ matrix) / np.linalg.norm(x @ matrix))


def test_an_outlier_channel_is_smoothed_and_int8_comes_nearer(tmp_path: Path) -> None:
    x, matrix = normal(60, 16), normal(16, 8)
    x[:, 3] *= 64
    prepared = best_preparation(x, matrix)
    assert prepared.scales is not None
    assert prepared.scales.argmax() == 3
    assert error(x, matrix, prepared, tmp_path) < error(x, matrix, Preparation(), tmp_path)


def test_a_channel_that_is_silent_on_the_samples_takes_no_steps_later(tmp_path: Path) -> None:
    x, matrix = np.maximum(normal(60, 32), 0), normal(32, 8)
    x[:, 3] *= 32
    x[:, 5] = 0
    prepared = best_preparation(x, matrix)
    assert prepared.scales is not None
    assert prepared.scales.min() == 1
    x[:, 5] = 3
    assert error(x, matrix, prepared, tmp_path) < 0.02


def test_nothing_is_smoothed_where_nothing_is_gained() -> None:
    even = np.sign(normal(50, 16))
    assert best_preparation(even, even[:16]) == Preparation()
    assert best_preparation(np.zeros((4, 16), np.float32), even[:16]) == Preparation()
    assert best_preparation(np.full((4, 16), np.nan, np.float32), even[:16]) == Preparation()


def test_what_is_seldom_negative_gets_a_lower_zero_point() -> None:
    wave = normal(50, 16)
    gelu_like = np.maximum(wave, -0.05)
    assert best_preparation(gelu_like, wave[:16]).zero < 128
    assert best_preparation(wave, wave[:16]).zero == 128


def uneven_model(folder: Path) -> Path:
    """The tiny model with a Gelu, and one channel of its embedding that stands out."""
    file = write_tiny_model(folder)
    model = onnx.load(str(file))
    with_gelu(model)
    sizes = np.array([1, 1, 1, 64, 1, 1, 1, 1], np.float32)
    change_weight(model, "embedding", lambda value: value * sizes)
    onnx.save(model, str(file))
    return file


def add(file: Path, root: Path, name: str, build: Build) -> Backbone:
    options = OnnxOptions(max_length=16)
    return add_from_onnx(file, options, root, name, lambda _: None, False, build).backbone


def pooled(backbone: Backbone) -> Matrix:
    rows = [backbone.preprocess(text) for text in SAMPLE_TEXTS]
    return backbone.run(rows, ["pooled"])["pooled"]


def test_an_uneven_backbone_comes_nearer_to_fp32_and_is_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, root = uneven_model(tmp_path), tmp_path / "backbones"
    fp32 = add(file, root, "fp32", Build("fp32"))
    int8, again = (add(file, root, name, Build("int8")) for name in ("int8", "again"))
    assert int8.digest == again.digest
    monkeypatch.setattr(packing, "prepare_and_quantise", lambda model, _: quantise(model))
    plain = add(file, root, "plain", Build("int8"))
    errors = [np.abs(pooled(each) - pooled(fp32)).mean() for each in (int8, plain)]
    assert errors[0] < 0.7 * errors[1]


def test_each_activation_is_prepared_by_what_it_is_on_the_samples(tmp_path: Path) -> None:
    file, root = uneven_model(tmp_path), tmp_path / "backbones"
    add(file, root, "fp32", Build("fp32"))
    files = sorted((root / "fp32").iterdir())
    model = onnx.load(str(file))
    prepare_and_quantise(model, root / "fp32")
    assert sorted((root / "fp32").iterdir()) == files
    inputs = {node.output[0]: node.input for node in model.graph.node}
    assert list(inputs["embedded/smooth"]) == ["embedded", "embedded/smoothing"]
    assert inputs["query/unscaled"][-1] == "int8/zero128"
    assert inputs["inner/unscaled"][-1] in {f"int8/zero{zero}" for zero in (64, 32, 24, 16)}


def test_a_smoothed_gelu_has_the_tanh_form_and_needs_no_pass_for_its_bound(tmp_path: Path) -> None:
    file, root = uneven_model(tmp_path), tmp_path / "backbones"
    add(file, root, "fp32", Build("fp32"))
    model = onnx.load(str(file))
    prepare_and_quantise(model, root / "fp32")
    nodes = {node.output[0]: node for node in model.graph.node}
    assert nodes["wide/smooth"].op_type == "Mul"
    assert nodes["wide"].attribute[0].s == b"tanh"
    assert "wide/smooth/size" not in nodes
