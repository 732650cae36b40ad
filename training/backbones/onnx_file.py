"""An ONNX file as people export it: brought to int64 ids, float32 numbers and a recent opset."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from backbone.errors import BackboneError
from backbone.surgery.model import opset, with_subgraphs
from backbone.text import IDS, KNOWN_INPUTS, MASK

_OLDEST = 13  # the opset in which reductions and Unsqueeze take their axes as an input
_TARGET = 18  # of what is older
_OTHER_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def read_onnx(file: Path) -> onnx.ModelProto:
    """The graph of a file, in the form that a backbone has, with shapes.

    Raises:
        BackboneError: it is no ONNX file, its inputs have fixed lengths, or its opset is too old.
    """
    try:
        model = onnx.load(str(file))
    except Exception as error:  # protobuf and onnx each raise their own
        raise BackboneError(f"{file} is not an ONNX file: {error}") from error
    _drop_weights_from_inputs(model)
    _check_lengths(file, model)
    if opset(model) < _OLDEST:
        model = _converted(file, model)
    _to_float32(model)
    _take_int64(model)
    _take_mask(model)
    try:
        return onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # onnx has no base class for its errors
        raise BackboneError(f"the graph of {file} contradicts itself: {error}") from error


def _drop_weights_from_inputs(model: onnx.ModelProto) -> None:
    """Older files list weights among the inputs, too, where nothing can be made of them."""
    weights = {each.name for each in model.graph.initializer}
    kept = [each for each in model.graph.input if each.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _check_lengths(file: Path, model: onnx.ModelProto) -> None:
    for each in model.graph.input:
        dims = [dim.dim_value for dim in each.type.tensor_type.shape.dim]
        if each.name in KNOWN_INPUTS and any(dims):
            shape = [dim or "any" for dim in dims]
            raise BackboneError(
                f"the input {each.name} of {file} has the fixed shape {shape}; export it again "
                "with free axes for rows and tokens (dynamic_axes, or dynamic_shapes)"
            )


def _converted(file: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, _TARGET)
    except Exception as error:  # it raises what its C++ part raises
        raise BackboneError(
            f"{file} is written in opset {opset(model)}, and cannot be brought to {_TARGET}: "
            f"export it again with opset_version={_TARGET} ({str(error).strip().splitlines()[0]})"
        ) from error


def _to_float32(model: onnx.ModelProto) -> None:
    """Make all numbers with a point float32, in place: what a CPU computes with."""
    graph = model.graph
    nodes = list(with_subgraphs(graph.node))
    graphs = [graph, *(attribute.g for attribute in _attributes(nodes) if attribute.HasField("g"))]
    tensors = [tensor for each in graphs for tensor in each.initializer]
    for attribute in _attributes(nodes):
        tensors += [attribute.t, *attribute.tensors]
        if attribute.name in ("to", "dtype") and attribute.i in _OTHER_FLOATS:
            attribute.i = TensorProto.FLOAT
    for tensor in tensors:
        if tensor.data_type in _OTHER_FLOATS:
            value = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for each in graphs:
        del each.value_info[:]
        for value in (*each.input, *each.output):
            if value.type.tensor_type.elem_type in _OTHER_FLOATS:
                value.type.tensor_type.elem_type = TensorProto.FLOAT


def _attributes(nodes: list[onnx.NodeProto]) -> Iterator[onnx.AttributeProto]:
    for node in nodes:
        yield from node.attribute


def _take_int64(model: onnx.ModelProto) -> None:
    """Cast ids and masks, which come as int64, to what the graph takes."""
    graph = model.graph
    for given in graph.input:
        kind = given.type.tensor_type
        if given.name not in KNOWN_INPUTS or kind.elem_type == TensorProto.INT64:
            continue
        inner = f"{given.name}/as_taken"
        for node in graph.node:
            node.input[:] = [inner if name == given.name else name for name in node.input]
        graph.node.insert(0, helper.make_node("Cast", [given.name], [inner], to=kind.elem_type))
        kind.elem_type = TensorProto.INT64


def _take_mask(model: onnx.ModelProto) -> None:
    """Give a graph that knows no padding the mask that pooling needs."""
    names = [each.name for each in model.graph.input]
    if IDS in names and MASK not in names:
        info = helper.make_tensor_value_info(MASK, TensorProto.INT64, ["n", "t"])
        model.graph.input.append(info)
