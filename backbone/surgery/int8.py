"""Int8 whose rows cannot touch: one activation scale a token, one weight scale a column.

The usual dynamic quantisation takes one activation scale for the whole batch, and so neighbours
change a row. Here each token's vector x is scaled alone: by max|x|/127 around the zero point 128,
or, where what is negative is small, as after a Gelu, around a lower one with more steps above it.
The fused operator is emitted as such: written as MatMulInteger, Cast and Mul with a scale a token,
ONNX Runtime fuses the three wrongly and says nothing (cosine 0.63 to the right answer).
"""

from collections import Counter
from collections.abc import Container, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from backbone.errors import BackboneError
from backbone.surgery.model import (
    MICROSOFT,
    add_constant,
    allow_microsoft,
    opset,
    prune,
    reads,
    replace_nodes,
    with_subgraphs,
)
from backbone.surgery.sites import constant_matrices, is_product

MIDDLE = 128  # the zero point that gives both signs alike
_GELU_MINIMUM = 0.1701  # below 0; of both its forms
_OLDEST = 13  # the opset in which QuantizeLinear takes a scale a row
_BLOCKED = 21  # the opset in which it takes a scale a block: here, a token
# What reads its attributes or inputs otherwise in an opset after 18, up to the one with blocks.
_CHANGED = frozenset({"DFT", "GridSample", "GroupNormalization"})

Constants = dict[str, NDArray[np.generic]]


def quantise(model: onnx.ModelProto, zeros: Mapping[str, int] | None = None) -> None:
    """Replace each product with a constant float32 matrix by its int8 form, in place.

    Tensors keep their names: what reads a product's output does not change. `zeros` gives an
    activation's zero point, 1 to 254, where it is not the middle.

    Raises:
        BackboneError: there is no such product, the opset is too old, or a zero point is outside.
    """
    zeros = zeros or {}
    matrices = constant_matrices(model)
    _check(model, matrices, zeros)
    _allow_blocks(model)
    version = opset(model)
    bounded = _bounded_below(model)
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    weights: Constants = {}
    uses: Counter[str] = Counter()
    others: Constants = {}
    for node in model.graph.node:
        if not is_product(node, matrices):
            nodes.append(node)
            continue
        x, weight = node.input
        zero = zeros.get(x, MIDDLE)
        if x not in done:  # query, key and value share their input
            done.add(x)
            width, _ = matrices[weight].shape
            nodes += _activation(x, width, zero, version, x in bounded)
            others |= _constants(zero, width)
        integers = f"{weight}/int8"
        uses[weight] += 1
        if uses[weight] == 1:
            weights |= _weight(weight, matrices[weight].array())
        else:
            # Each product has integers of its own: ONNX Runtime changes their sign in place, and
            # fails at a second product of the same.
            first, integers = integers, f"{integers}.{uses[weight]}"
            weights[integers] = weights[first]
        nodes += _product(x, weight, integers, zero, node.output[0])
    for name, value in (weights | others).items():
        add_constant(model, name, value)
    replace_nodes(model, nodes)
    allow_microsoft(model)
    prune(model)


def approximate_gelu(model: onnx.ModelProto) -> None:
    """Take the faster tanh form of each Gelu that only products read, in place.

    It is off by 5e-4 at most (Hendrycks and Gimpel 2016), where a step of int8 is about 1e-2.
    Smoothing comes after it: to a smoothed Gelu, products are not all that reads it.
    """
    matrices = constant_matrices(model)
    others = {output.name for output in model.graph.output}
    for node in model.graph.node:
        others |= set(node.input[1:] if is_product(node, matrices) else reads(node))
    for node in model.graph.node:
        if node.op_type == "Gelu" and not node.domain and node.output[0] not in others:
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("approximate", "tanh"))


def _check(model: onnx.ModelProto, matrices: Container[str], zeros: Mapping[str, int]) -> None:
    if not any(is_product(node, matrices) for node in model.graph.node):
        raise BackboneError(
            "the graph has no matrix product with constant float32 weights, so there is nothing "
            "to quantise; add it with --precision fp32"
        )
    if (version := opset(model)) < _OLDEST:
        raise BackboneError(
            f"the graph is written in opset {version}; int8 needs {_OLDEST} or later: export it "
            "again, or add it with --precision fp32"
        )
    for x, zero in zeros.items():
        if not 1 <= zero <= 254:
            raise BackboneError(f"the zero point of {x!r} is {zero}; int8 takes 1 to 254")


def _allow_blocks(model: onnx.ModelProto) -> None:
    """Write the graph in the opset with blocks, where that changes no other operator."""
    inside = [node for function in model.functions for node in function.node]
    every = with_subgraphs([*model.graph.node, *inside])
    if not any(node.op_type in _CHANGED for node in every):
        for each in model.opset_import:
            if each.domain in ("", "ai.onnx") and 18 <= each.version < _BLOCKED:
                each.version = _BLOCKED
                model.ir_version = max(model.ir_version, 10)


def _bounded_below(model: onnx.ModelProto) -> set[str]:
    """What goes no further below 0 than a Gelu: one, and one of which smoothing made less."""
    constants = {each.name: each for each in model.graph.initializer}
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Gelu" and not node.domain:
            found.add(node.output[0])
        elif node.op_type == "Mul" and node.input[0] in found and node.input[1] in constants:
            factors = numpy_helper.to_array(constants[node.input[1]])
            if np.all((factors >= 0) & (factors <= 1)):
                found.add(node.output[0])
    return found


def _constants(zero: int, width: int) -> Constants:
    """What the nodes of an activation with this zero point and width read."""
    return {
        "int8/one": np.array(1, np.float32),
        "int8/huge": np.array(1e30, np.float32),
        "int8/last": np.array([-1], np.int64),
        f"int8/rows{width}": np.array([-1, width], np.int64),
        f"int8/zero{zero}": np.array(zero, np.uint8),
        f"int8/step{zero}": np.array(1 / (255 - zero), np.float32),
        f"int8/floor{zero}": np.array(_GELU_MINIMUM * (255 - zero) / zero, np.float32),
    }


def _weight(name: str, matrix: NDArray[np.float32]) -> Constants:
    values, scales = quantise_columns(matrix)
    return {f"{name}/int8": values, f"{name}/scale": scales}


def quantise_columns(
    matrix: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Values [k, m] in -127..127 and scales [m]; values * scales is the matrix, nearly."""
    largest = np.abs(matrix).max(axis=0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def _activation(x: str, width: int, zero: int, version: int, bounded: bool) -> list[onnx.NodeProto]:
    """x [..., width] as uint8 around `zero` in `x/int8`, its scales in `x/scale`."""
    quantised = _by_block if version >= _BLOCKED else _by_row
    return _scaled(x, zero, version, bounded) + quantised(x, width, zero)


def _scaled(x: str, zero: int, version: int, bounded: bool) -> list[onnx.NodeProto]:
    """The scale [..., 1] of x [..., k] in `x/scale`: `zero` steps below 0, 255 - `zero` above.

    A vector of zeros has the scale 0 and any integers, and so gives zeros in every product.
    """
    node = helper.make_node
    last = ["int8/last"] if version >= 18 else []  # an attribute, in the older operator
    axes = {} if version >= 18 else {"axes": [-1]}
    if zero != MIDDLE and bounded:  # how far it goes below 0 is known: no pass for that
        return [
            node("ReduceMax", [x, *last], [f"{x}/above"], keepdims=1, **axes),
            node("Max", [f"{x}/above", f"int8/floor{zero}"], [f"{x}/max"]),
            node("Mul", [f"{x}/max", f"int8/step{zero}"], [f"{x}/scale"]),
        ]
    size = (
        node("Abs", [x], [f"{x}/size"])
        if zero == MIDDLE
        else node("LeakyRelu", [x], [f"{x}/size"], alpha=(zero - 255) / zero)
    )
    return [
        size,
        node("ReduceMax", [f"{x}/size", *last], [f"{x}/max"], keepdims=1, **axes),
        node("Mul", [f"{x}/max", f"int8/step{zero}"], [f"{x}/scale"]),
    ]


def _by_block(x: str, width: int, zero: int) -> list[onnx.NodeProto]:
    """x [..., k] as uint8 around `zero` in `x/int8`, in two nodes: a single text feels each."""
    inputs = [x, f"{x}/scale", f"{x}/zeros"]
    return [
        _zeros(f"{x}/scale", zero, f"{x}/zeros"),
        helper.make_node("QuantizeLinear", inputs, [f"{x}/int8"], axis=-1, block_size=width),
    ]


def _by_row(x: str, width: int, zero: int) -> list[onnx.NodeProto]:
    """The same for older graphs, with a scale along the first of two axes."""
    node = helper.make_node
    inputs = [f"{x}/rows", f"{x}/scales", f"{x}/zeros"]
    return [
        node("Reshape", [x, f"int8/rows{width}"], [f"{x}/rows"]),
        node("Reshape", [f"{x}/scale", "int8/last"], [f"{x}/scales"]),
        _zeros(f"{x}/scales", zero, f"{x}/zeros"),
        node("QuantizeLinear", inputs, [f"{x}/flat"], axis=0),
        node("Shape", [x], [f"{x}/shape"]),
        node("Reshape", [f"{x}/flat", f"{x}/shape"], [f"{x}/int8"]),
    ]


def _zeros(scales: str, zero: int, name: str) -> onnx.NodeProto:
    """A zero point beside each scale, in one node: in steps of 1e30 every scale rounds to it."""
    return helper.make_node("QuantizeLinear", [scales, "int8/huge", f"int8/zero{zero}"], [name])


def _product(x: str, weight: str, integers: str, zero: int, y: str) -> list[onnx.NodeProto]:
    inputs = [f"{x}/int8", integers, "int8/one", f"{weight}/scale", f"int8/zero{zero}"]
    return [
        helper.make_node("MatMulIntegerToFloat", inputs, [f"{y}/unscaled"], domain=MICROSOFT),
        helper.make_node("Mul", [f"{y}/unscaled", f"{x}/scale"], [y]),
    ]
