"""Features of a graph: naming them, pooling that is stable, dropping what is not the model."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from backbone.errors import BackboneError
from backbone.surgery.model import prune

Pooling = Literal["mean", "cls"]


def strip_provenance(model: onnx.ModelProto) -> None:
    """Remove stack traces, doc strings and paths of the exporting machine.

    The same weights exported by the same versions are then the same bytes everywhere.
    """
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    del graph.value_info[:]
    for part in [graph, *graph.node, *graph.input, *graph.output, *graph.initializer]:
        part.doc_string = ""
        del part.metadata_props[:]


def expose(model: onnx.ModelProto, tensor: str, feature: str, dims: tuple[str | int, ...]) -> None:
    """Make a tensor inside the graph the output `feature`, float32 with the given dims.

    Raises:
        BackboneError: no tensor of that name.
    """
    graph = model.graph
    outputs = [output.name for output in graph.output]
    if tensor not in {name for node in graph.node for name in node.output} | set(outputs):
        raise BackboneError(
            f"the graph has no tensor {tensor!r} to tap as {feature!r}; its outputs are {outputs}"
        )
    kept = [output for output in graph.output if output.name != feature]
    if tensor != feature:
        graph.node.append(helper.make_node("Identity", [tensor], [feature], name=f"tap_{feature}"))
    del graph.output[:]
    graph.output.extend(kept)
    graph.output.append(helper.make_tensor_value_info(feature, TensorProto.FLOAT, dims))


def keep_outputs(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    """Drop all outputs but `names`, with the nodes and weights that only others need."""
    kept = {output.name: output for output in model.graph.output}
    del model.graph.output[:]
    model.graph.output.extend(kept[name] for name in names)
    prune(model)


def add_pooling(model: onnx.ModelProto, width: int, pooling: Pooling) -> None:
    """Add the output `pooled` [n, d] from `tokens` [n, t, d] and `attention_mask` [n, t]."""
    nodes = _mean_nodes() if pooling == "mean" else _cls_nodes()
    constants = {"pool_0": [0], "pool_1": [1], "pool_twice": [1, 2, 1]}
    _add_output(model, nodes, constants, "pooled", ["n", width])


def add_layers(model: onnx.ModelProto, inner: Sequence[str], width: int, pooling: Pooling) -> None:
    """Add the output `layers` [n, L, d]: `inner` tensors [n, t, d] and `tokens`, pooled each.

    Needs what `add_pooling` has added. The last layer has the bits of `pooled`.
    """
    nodes = _mean_layers(inner) if pooling == "mean" else _cls_layers(inner)
    constants = {"layer_step": [2], "layer_rows": [2 * len(inner) + 2]}
    _add_output(model, nodes, constants, "layers", ["n", len(inner) + 1, width])


def _add_output(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, list[int]],
    name: str,
    dims: Sequence[str | int],
) -> None:
    """Nodes that compute an output, with those of the constants that they read."""
    used = {name for node in nodes for name in node.input}
    for constant in sorted(used & constants.keys()):
        value = np.array(constants[constant], dtype=np.int64)
        model.graph.initializer.append(numpy_helper.from_array(value, constant))
    model.graph.node.extend(nodes)
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
    model.graph.output.append(output)


def _mean_nodes() -> list[onnx.NodeProto]:
    """Masked mean as a matrix product with the mask.

    The mask stands in two equal rows: with one, ONNX Runtime takes a matrix-vector kernel whose
    order of summation depends on the padded length, and a row's bits change with its neighbours
    (seen in a quarter of the cases; never with two rows or more).
    """
    node = helper.make_node
    return [
        node("Cast", ["attention_mask"], ["pool_mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["pool_mask", "pool_1"], ["pool_row"]),
        node("Expand", ["pool_row", "pool_twice"], ["pool_rows"]),
        node("MatMul", ["pool_rows", "tokens"], ["pool_sums"]),
        node("Slice", ["pool_sums", "pool_0", "pool_1", "pool_1"], ["pool_first"]),
        node("Squeeze", ["pool_first", "pool_1"], ["pool_sum"]),
        node("ReduceSum", ["pool_mask", "pool_1"], ["pool_count"], keepdims=1),
        node("Div", ["pool_sum", "pool_count"], ["pooled"]),
    ]


def _cls_nodes() -> list[onnx.NodeProto]:
    """The first token's vector."""
    node = helper.make_node
    return [
        node("Slice", ["tokens", "pool_0", "pool_1", "pool_1"], ["pool_first"]),
        node("Squeeze", ["pool_first", "pool_1"], ["pooled"]),
    ]


def _mean_layers(inner: Sequence[str]) -> list[onnx.NodeProto]:
    """The same product with the two rows of the mask for each layer; `pooled` has the last one.

    Of the sums, stacked as [n, 2 L, d], each second row is left out.
    """
    node = helper.make_node
    sums = [f"layer_sums_{number}" for number in range(len(inner))]
    products = [
        node("MatMul", ["pool_rows", tensor], [summed])
        for tensor, summed in zip(inner, sums, strict=True)
    ]
    return [
        *products,
        node("Concat", [*sums, "pool_sums"], ["layer_sums"], axis=1),
        node(
            "Slice", ["layer_sums", "pool_0", "layer_rows", "pool_1", "layer_step"], ["layer_sum"]
        ),
        node("Unsqueeze", ["pool_count", "pool_1"], ["layer_count"]),
        node("Div", ["layer_sum", "layer_count"], ["layers"]),
    ]


def _cls_layers(inner: Sequence[str]) -> list[onnx.NodeProto]:
    """The first token's vector of each layer."""
    node = helper.make_node
    firsts = [f"layer_first_{number}" for number in range(len(inner))]
    slices = [
        node("Slice", [tensor, "pool_0", "pool_1", "pool_1"], [first])
        for tensor, first in zip(inner, firsts, strict=True)
    ]
    return [*slices, node("Concat", [*firsts, "pool_first"], ["layers"], axis=1)]
