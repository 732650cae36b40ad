"""Gemm nodes, as of torch's Conv1D, as products in which int8 and LoRA find their sites."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from backbone.surgery.gemm import unfold_gemms
from backbone.surgery.sites import find_sites

RANDOM = np.random.default_rng(0)
INNER, OUTER = 6, 4
X = RANDOM.standard_normal((2, 5, INNER)).astype(np.float32)


def model_of(heads: int = 0, is_transposed: bool = False, **attributes: float) -> onnx.ModelProto:
    """x [n, t, k], or [n, t, heads, k / heads], folded for a Gemm and unfolded behind it."""
    info, node = helper.make_tensor_value_info, helper.make_node
    weight = RANDOM.standard_normal((INNER, OUTER)).astype(np.float32)
    constants = {
        "w": np.ascontiguousarray(weight.T) if is_transposed else weight,
        "bias": RANDOM.standard_normal(OUTER).astype(np.float32),
        "rows": np.array([-1, INNER]),
        "tokens": np.array([2, 5, OUTER]),
        "split": np.array([0, 0, heads, INNER // max(heads, 1)]),
    }
    inner = ["n", "t", heads, INNER // heads] if heads else ["n", "t", INNER]
    nodes = [
        node("Reshape", ["x", "split"], ["wide"]) if heads else node("Tanh", ["x"], ["wide"]),
        node("Reshape", ["wide", "rows"], ["folded"]),
        node("Gemm", ["folded", "w", "bias"], ["flat"], transB=int(is_transposed), **attributes),
        node("Reshape", ["flat", "tokens"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gemm",
        [info("x", TensorProto.FLOAT, ["n", "t", INNER])],
        [info("y", TensorProto.FLOAT, ["n", "t", OUTER])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        value_info=[
            info("wide", TensorProto.FLOAT, inner),
            info("folded", TensorProto.FLOAT, ["n*t", INNER]),
            info("flat", TensorProto.FLOAT, ["n*t", OUTER]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString())
    (y,) = session.run(["y"], {"x": X})
    assert isinstance(y, np.ndarray)
    return y


@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_foldings_around_a_gemm_go_and_it_takes_lora(heads: int, is_transposed: bool) -> None:
    model = model_of(heads, is_transposed)
    expected = run(model)
    unfold_gemms(model)
    assert run(model) == pytest.approx(expected, abs=1e-6)
    (site,) = find_sites(model)
    assert (site.name, site.inputs, site.outputs, site.takes_lora) == ("w", INNER, OUTER, True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Reshape") == (2 if heads else 0)


def test_without_shapes_the_product_stays_folded() -> None:
    model = model_of()
    expected = run(model)
    del model.graph.value_info[:]
    unfold_gemms(model)
    assert run(model) == pytest.approx(expected, abs=1e-6)
    (site,) = find_sites(model)
    assert not site.takes_lora


def test_a_gemm_that_scales_is_left_alone() -> None:
    model = model_of(alpha=2.0)
    before = model.SerializeToString()
    unfold_gemms(model)
    assert [node.op_type for node in model.graph.node].count("Gemm") == 1
    assert run(model) == pytest.approx(run(onnx.load_model_from_string(before)))
    assert find_sites(model) == ()
