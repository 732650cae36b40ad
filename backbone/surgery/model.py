"""What every operation on a graph needs."""

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators


def replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make `nodes`, which are in an order that can be run, all nodes of the graph."""
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def add_constant(model: onnx.ModelProto, name: str, value: NDArray[np.generic]) -> None:
    """Add an initializer."""
    model.graph.initializer.append(numpy_helper.from_array(value, name))


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the graph is written in."""
    return next(int(each.version) for each in model.opset_import if each.domain in ("", "ai.onnx"))


def allow_microsoft(model: onnx.ModelProto) -> None:
    """Declare that the graph has operators of ONNX Runtime."""
    if all(each.domain != MICROSOFT for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def prune(model: onnx.ModelProto) -> None:
    """Drop the nodes and initializers that no output needs."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(reads(node))
    replace_nodes(model, reversed(nodes))
    kept = [each for each in graph.initializer if each.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def with_subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Each node, and the nodes of its subgraphs after it."""
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from with_subgraphs(graph.node)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node reads, those that only its subgraphs read included."""
    for each in with_subgraphs([node]):
        yield from each.input
        for graph in _subgraphs(each):
            yield from (output.name for output in graph.output)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from [attribute.g, *attribute.graphs]
