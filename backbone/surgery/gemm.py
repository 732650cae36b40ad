"""Gemm nodes as products and sums, in which int8 and LoRA find their sites.

Torch's Conv1D (GPT-2) folds tokens into rows for a Gemm, and unfolds them behind it: x [n, t, k] ->
[n * t, k] -> Gemm -> [n, t, m]. A matrix product takes [n, t, k] as it is, and so both foldings go.
"""

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from backbone.surgery.model import add_constant, prune, replace_nodes
from backbone.surgery.sites import constant_matrices

Shape = tuple[str | int, ...]
_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0}


def unfold_gemms(model: onnx.ModelProto) -> None:
    """Replace each Gemm with a constant matrix by a MatMul and an Add, in place.

    Foldings around it go where the graph has the shapes that tell them.
    """
    matrices = constant_matrices(model)
    shapes = _shapes(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    unfoldings = _only_readers(model)
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()  # what is computed already, without its folding
    for node in model.graph.node:
        if node.op_type == "Gemm" and node.input[1] in matrices and _is_plain(node):
            before, after = makers.get(node.input[0]), unfoldings.get(node.output[0])
            x, y = node.input[0], node.output[0]
            if before and after and _is_folded(before, after, shapes):
                x, y = before.input[0], after.output[0]
                if len(shapes[x]) > 3:  # heads of attention, side by side
                    nodes.append(_joined(model, x, (*shapes[x][:2], shapes[before.output[0]][-1])))
                    x = nodes[-1].output[0]
                done.add(y)
            nodes += _product_and_sum(node, x, y)
        elif not done.intersection(node.output):
            nodes.append(node)
    replace_nodes(model, nodes)
    prune(model)


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    graph = model.graph
    return {
        value.name: tuple(
            each.dim_value or each.dim_param for each in value.type.tensor_type.shape.dim
        )
        for value in [*graph.input, *graph.value_info, *graph.output]
    }


def _only_readers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The one node that reads a tensor, of those tensors that one node alone reads."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in model.graph.output}
    return {
        name: found[0] for name, found in readers.items() if len(found) == 1 and name not in outputs
    }


def _is_plain(node: onnx.NodeProto) -> bool:
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return all(given.get(name, value) == value for name, value in _PLAIN.items())


def _is_folded(before: onnx.NodeProto, after: onnx.NodeProto, shapes: Mapping[str, Shape]) -> bool:
    """Tell whether [n, t, ...] becomes rows before a Gemm, and [n, t, m] again after it."""
    if before.op_type != "Reshape" or after.op_type != "Reshape":
        return False
    x, y = shapes.get(before.input[0], ()), shapes.get(after.output[0], ())
    rows, results = shapes.get(before.output[0], ()), shapes.get(after.input[0], ())
    if len(x) < 3 or len(y) != 3 or not all(y) or x[:2] != y[:2]:
        return False
    inner = [each for each in x[2:] if isinstance(each, int)]
    return (math.prod(inner), y[-1]) == (rows[-1], results[-1]) and len(inner) == len(x) - 2


def _joined(model: onnx.ModelProto, x: str, shape: Shape) -> onnx.NodeProto:
    """x [n, t, ...] in the shape [n, t, k]."""
    add_constant(model, f"{x}/joined_shape", np.array([0, 0, shape[-1]], np.int64))
    info = helper.make_tensor_value_info(f"{x}/joined", TensorProto.FLOAT, shape)
    model.graph.value_info.append(info)
    return helper.make_node("Reshape", [x, f"{x}/joined_shape"], [f"{x}/joined"])


def _product_and_sum(gemm: onnx.NodeProto, x: str, y: str) -> list[onnx.NodeProto]:
    """y = x W + bias, or the product alone; the product is called as the Gemm was."""
    nodes = []
    weight = gemm.input[1]
    attributes = {each.name: each.i for each in gemm.attribute}
    if attributes.get("transB"):
        weight = f"{gemm.output[0]}/weight"
        nodes.append(helper.make_node("Transpose", [gemm.input[1]], [weight], perm=[1, 0]))
    has_bias = len(gemm.input) > 2 and bool(gemm.input[2])
    product = f"{gemm.output[0]}/product" if has_bias else y
    name = gemm.name.replace("Gemm", "MatMul")
    nodes.append(helper.make_node("MatMul", [x, weight], [product], name=name))
    nodes[-1].metadata_props.extend(gemm.metadata_props)
    if has_bias:
        nodes.append(helper.make_node("Add", [product, gemm.input[2]], [y]))
    return nodes
