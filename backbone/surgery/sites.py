"""Sites: the matrix products with constant weights, where int8 and LoRA work, and their names."""

import ast
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

# Where torch's exporter writes the path of the module that a node comes from.
_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class FoundSite:
    """MatMuls y = x W of one constant W [inputs, outputs], float32, told by their tensors' names.

    There are several where a layer is passed again (ALBERT): LoRA is added in all `places`.
    `takes_lora`: every x has the axes [n, t, inputs].
    """

    name: str
    places: tuple["Place", ...]
    inputs: int
    outputs: int
    takes_lora: bool


class Place(NamedTuple):
    """Input and output of one product."""

    x: str
    y: str


def find_sites(model: onnx.ModelProto, wrapper: str = "") -> tuple[FoundSite, ...]:
    """All sites in the order of the graph, under unique names.

    A site is called as its module in torch, where the graph says so, less the prefix `wrapper`;
    else as its weight less ".weight". A module, or a weight without one, that is used again is the
    same site. Needs shapes, and what `strip_provenance` removes.
    """
    weights = constant_matrices(model)
    has_tokens = _with_tokens(model)
    places: dict[tuple[str, str], list[Place]] = {}
    used: dict[tuple[str, str], ConstantMatrix] = {}
    for node in model.graph.node:
        if is_product(node, weights):
            matrix = weights[node.input[1]]
            module = _module(node).removeprefix(wrapper) or _weight_name(matrix)
            key = (module, node.input[1])
            used[key] = matrix
            places.setdefault(key, []).append(Place(node.input[0], node.output[0]))
    taken: set[str] = set()
    sites = []
    for key, found in places.items():
        taken.add(name := _unique(key[0], taken))
        inputs, outputs = used[key].shape
        takes_lora = all(has_tokens(place) for place in found)
        sites.append(FoundSite(name, tuple(found), inputs, outputs, takes_lora))
    return tuple(sites)


@dataclass(frozen=True, slots=True)
class ConstantMatrix:
    """An initializer [rows, columns], read as its transpose where `transposed`."""

    initializer: onnx.TensorProto
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs and outputs of the product."""
        rows, columns = self.initializer.dims
        return (columns, rows) if self.transposed else (rows, columns)

    def array(self) -> NDArray[np.float32]:
        """The matrix as the product reads it."""
        value: NDArray[np.float32] = numpy_helper.to_array(self.initializer)
        return value.T if self.transposed else value


def constant_matrices(model: onnx.ModelProto) -> dict[str, ConstantMatrix]:
    """Constant float32 matrices by tensor name: initializers, and transposes of them."""
    found = {
        tensor.name: ConstantMatrix(tensor, transposed=False)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    }
    for node in model.graph.node:
        order = [list(each.ints) for each in node.attribute]
        # Where no order is named, the two axes change places all the same.
        if node.op_type == "Transpose" and node.input[0] in found and order in ([], [[1, 0]]):
            before = found[node.input[0]]
            found[node.output[0]] = ConstantMatrix(before.initializer, not before.transposed)
    return found


def is_product(node: onnx.NodeProto, matrices: Container[str]) -> bool:
    """Whether a node is a matrix product whose second factor is one of `matrices`."""
    return node.op_type == "MatMul" and not node.domain and node.input[1] in matrices


def _with_tokens(model: onnx.ModelProto) -> Callable[[Place], bool]:
    """Tells a product of all tokens of all rows from one of a table, as of relative positions.

    The first has three axes, and its first one is not of a fixed length.
    """
    graph = model.graph
    dims = {
        value.name: value.type.tensor_type.shape.dim
        for value in [*graph.input, *graph.value_info, *graph.output]
        if value.type.tensor_type.HasField("shape")
    }

    def has_tokens(place: Place) -> bool:
        axes = dims.get(place.x, dims.get(place.y, ()))
        return len(axes) == 3 and not axes[0].dim_value

    return has_tokens


def _module(node: onnx.NodeProto) -> str:
    """The path of the torch module that the node comes from, "" where the graph does not say.

    One exporter of torch writes it as metadata, the older one as the node's name.
    """
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scopes = [str(scope) for scope in ast.literal_eval(entry.value)]
            return _printable(scopes[-2]) if len(scopes) > 1 else ""
    if re.fullmatch(r"(/[^/]+)+/MatMul(_\d+)?", node.name):
        return _printable(".".join(node.name.split("/")[1:-1]))
    return ""


def _weight_name(matrix: ConstantMatrix) -> str:
    name = matrix.initializer.name
    return _printable(name.removesuffix(".weight")) or "weight"


def _printable(name: str) -> str:
    return re.sub(r"[^\x21-\x7e]|,", "_", name)


def _unique(name: str, taken: set[str]) -> str:
    """`name`, or `name.2`, `name.3` … for another weight of the same module."""
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}.{number}"
    return unique
