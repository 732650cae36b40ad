"""Smoothing: channels of an activation brought to like size before int8, their weights made up for.

A token has one scale, so a channel far larger than the others takes the steps from them. With
x' = x / s and W' = s W, a scale a channel, the product stays what it was and both are easier to
quantise (SmoothQuant, Xiao et al. 2023). Scales are powers of two: no bit of x or W is lost.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from backbone.errors import BackboneError
from backbone.surgery.model import add_constant, prune, replace_nodes
from backbone.surgery.sites import constant_matrices, is_product

Scales = NDArray[np.float32]


def smoothed(activation: str) -> str:
    """The name of the tensor that takes an activation's place before products."""
    return f"{activation}/smooth"


def products_by_activation(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Activations in the order of the graph, each with the constant matrices that it meets."""
    matrices = constant_matrices(model)
    computed = {name for node in model.graph.node for name in node.output}
    found: dict[str, dict[str, None]] = {}
    for node in model.graph.node:
        if is_product(node, matrices) and node.input[0] in computed:
            found.setdefault(node.input[0], {})[node.input[1]] = None
    return {activation: tuple(weights) for activation, weights in found.items()}


def smooth(model: onnx.ModelProto, scales: Mapping[str, Scales]) -> None:
    """Divide each activation in `scales` by its scales [k] on its way into products, in place.

    All else that reads the activation gets it as it was: the graph's outputs are the same.

    Raises:
        BackboneError: a scale is not a power of two, or there are not as many as channels.
    """
    matrices = constant_matrices(model)
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    weights: set[str] = set()
    for node in model.graph.node:
        if is_product(node, matrices) and node.input[0] in scales:
            x, weight = node.input
            matrix = matrices[weight].array()
            if x not in done:
                done.add(x)
                _check(x, scales[x], len(matrix))
                add_constant(model, f"{x}/smoothing", 1 / scales[x])
                nodes.append(helper.make_node("Mul", [x, f"{x}/smoothing"], [smoothed(x)]))
            node.input[:] = [smoothed(x), f"{x}/{weight}"]  # other activations may share it
            if node.input[1] not in weights:
                weights.add(node.input[1])
                add_constant(model, node.input[1], matrix * scales[x][:, None])
        nodes.append(node)
    replace_nodes(model, nodes)
    prune(model)


def _check(activation: str, scales: Scales, channels: int) -> None:
    fractions, _ = np.frexp(scales)
    if scales.shape != (channels,) or scales.dtype != np.float32 or np.any(fractions != 0.5):
        raise BackboneError(
            f"the {channels} channels of {activation!r} are smoothed by as many powers of two"
        )
