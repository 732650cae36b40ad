"""Int8 writes a graph in a later opset only where no operator is read otherwise in it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backbone.kernels import open_session
from backbone.surgery.int8 import quantise

node = helper.make_node
# From x [1, 4, 8] to y of the same shape, in forms that opsets after 18 read otherwise.
CHANGED = {
    "GroupNormalization": [
        node("GroupNormalization", ["x", "halves", "halves"], ["y"], num_groups=2)
    ],
    "GridSample": [
        node("Unsqueeze", ["x", "first"], ["image"]),
        node("GridSample", ["image", "grid"], ["sampled"], mode="bilinear"),
        node("Squeeze", ["sampled", "first"], ["y"]),
    ],
    "DFT": [
        node("Unsqueeze", ["x", "last"], ["real"]),
        node("DFT", ["real"], ["complex"], axis=1),
        node("ReduceMax", ["complex", "last"], ["y"], keepdims=0),
    ],
}


def changed_model(operator: str, place: str) -> onnx.ModelProto:
    """y W in opset 18, with the operator in the graph, in a branch or in a function."""
    constants = {
        "halves": np.ones(2, np.float32),
        "first": np.array([1]),
        "last": np.array([-1]),
        "grid": np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 4, 8, 2),
        "true": np.array(True),
        "w": np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8),
    }
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ours", 1)]
    info = helper.make_tensor_value_info
    nodes, functions = CHANGED[operator], []
    if place == "branch":
        y = info("y", TensorProto.FLOAT, [1, 4, 8])
        branch = helper.make_graph(nodes, "branch", [], [y])
        nodes = [node("If", ["true"], ["out"], then_branch=branch, else_branch=branch)]
    elif place == "function":
        reads = ["x", *(name for name in constants if name not in ("true", "w"))]
        functions = [helper.make_function("ours", "F", reads, ["y"], nodes, opsets[:1])]
        nodes = [node("F", reads, ["out"], domain="ours")]
    product = node("MatMul", [nodes[-1].output[0], "w"], ["tokens"])
    graph = helper.make_graph(
        [*nodes, product],
        "changed",
        [info("x", TensorProto.FLOAT, [1, 4, 8])],
        [info("tokens", TensorProto.FLOAT, [1, 4, 8])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)


@pytest.mark.parametrize("place", ["graph", "branch", "function"])
@pytest.mark.parametrize("operator", CHANGED)
def test_what_a_later_opset_reads_otherwise_keeps_the_graph_as_it_was_written(
    operator: str, place: str, tmp_path: Path
) -> None:
    model = changed_model(operator, place)
    x = np.random.default_rng(3).standard_normal((1, 4, 8)).astype(np.float32)
    values = []
    for number in range(2):
        file = tmp_path / f"{number}.onnx"
        onnx.save(model, str(file))
        values.append(open_session(file).run(["tokens"], {"x": x})[0])
        if not number:
            quantise(model)
    assert model.opset_import[0].version == 18
    assert [each.op_type for each in model.graph.node].count("MatMulIntegerToFloat") == 1
    assert values[1] == pytest.approx(values[0], abs=0.1)
