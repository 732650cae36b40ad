"""Features of a graph: naming them, and dropping what is not the model."""

import onnx
from onnx import TensorProto, helper

from backbone.errors import BackboneError
from backbone.surgery.model import prune


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
