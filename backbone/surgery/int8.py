"""Int8 whose rows cannot touch: one activation scale a token, one weight scale a column.

The usual dynamic quantisation takes one activation scale for the whole batch, and so neighbours
change a row. Here each token's vector x is scaled by max|x|/127 alone. The fused operator is
emitted as such: written as MatMulInteger, Cast and Mul with a scale a token, ONNX Runtime fuses
the three wrongly and says nothing (cosine 0.63 to the right answer).
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from backbone.errors import BackboneError
from backbone.surgery.model import (
    MICROSOFT,
    add_constant,
    allow_microsoft,
    opset,
    prune,
    replace_nodes,
)
from backbone.surgery.sites import constant_matrices, is_product

_CONSTANTS: dict[str, NDArray[np.generic]] = {
    "int8/one": np.array(1, np.float32),
    "int8/tiny": np.array(1e-30, np.float32),  # a vector of zeros has a scale to divide by
    "int8/step": np.array(1 / 127, np.float32),
    "int8/zero": np.array(128, np.uint8),
    "int8/last": np.array([-1], np.int64),
}


def quantise(model: onnx.ModelProto) -> None:
    """Replace each product with a constant float32 matrix by its int8 form, in place.

    Tensors keep their names: what reads a product's output does not change.

    Raises:
        BackboneError: there is no such product.
    """
    matrices = constant_matrices(model)
    nodes: list[onnx.NodeProto] = []
    activations: set[str] = set()
    weights: set[str] = set()
    widths: set[int] = set()
    for node in model.graph.node:
        if not is_product(node, matrices):
            nodes.append(node)
            continue
        x, weight = node.input
        if x not in activations:  # query, key and value share their input
            activations.add(x)
            width = len(matrices[weight].array())
            nodes += _quantised(x, width, opset(model))
            widths.add(width)
        if weight not in weights:
            weights.add(weight)
            values, scales = quantise_columns(matrices[weight].array())
            add_constant(model, f"{weight}/int8", values)
            add_constant(model, f"{weight}/scale", scales)
        nodes += _product(x, weight, node.output[0])
    if not weights:
        raise BackboneError(
            "the graph has no matrix product with constant float32 weights, so there is nothing "
            "to quantise; add it with --precision fp32"
        )
    constants = _CONSTANTS | {f"int8/rows{width}": np.array([-1, width]) for width in widths}
    for name, value in constants.items():
        add_constant(model, name, value)
    replace_nodes(model, nodes)
    allow_microsoft(model)
    prune(model)


def quantise_columns(
    matrix: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Values [k, m] in -127..127 and scales [m]; values * scales is the matrix, nearly."""
    largest = np.abs(matrix).max(axis=0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def _quantised(x: str, width: int, version: int) -> list[onnx.NodeProto]:
    """x [..., k] as uint8 around 128 in `x/int8`, and its scale [..., 1] in `x/scale`.

    `QuantizeLinear` along the first of two axes rounds x / scale as Div, Round, Add and Cast
    would, to the bit, and makes the whole graph a tenth faster.
    """
    node = helper.make_node
    last = ["int8/last"] if version >= 18 else []  # an attribute, in the older operator
    axes = {} if version >= 18 else {"axes": [-1]}
    return [
        node("Abs", [x], [f"{x}/abs"]),
        node("ReduceMax", [f"{x}/abs", *last], [f"{x}/max"], keepdims=1, **axes),
        node("Max", [f"{x}/max", "int8/tiny"], [f"{x}/largest"]),
        node("Mul", [f"{x}/largest", "int8/step"], [f"{x}/scale"]),
        node("Reshape", [x, f"int8/rows{width}"], [f"{x}/rows"]),
        node("Reshape", [f"{x}/scale", "int8/last"], [f"{x}/scales"]),
        node("Shape", [f"{x}/scales"], [f"{x}/n"]),
        node("Expand", ["int8/zero", f"{x}/n"], [f"{x}/zeros"]),
        node("QuantizeLinear", [f"{x}/rows", f"{x}/scales", f"{x}/zeros"], [f"{x}/flat"], axis=0),
        node("Shape", [x], [f"{x}/shape"]),
        node("Reshape", [f"{x}/flat", f"{x}/shape"], [f"{x}/int8"]),
    ]


def _product(x: str, weight: str, y: str) -> list[onnx.NodeProto]:
    inputs = [f"{x}/int8", f"{weight}/int8", "int8/one", f"{weight}/scale", "int8/zero"]
    return [
        helper.make_node("MatMulIntegerToFloat", inputs, [f"{y}/unscaled"], domain=MICROSOFT),
        helper.make_node("Mul", [f"{y}/unscaled", f"{x}/scale"], [y]),
    ]
