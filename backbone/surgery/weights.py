"""Weights outside the graph files, so that all graphs of a backbone share one copy on the disk.

ONNX Runtime maps the file: weights that it reads as they are stand in memory once, however many
sessions are open. (Those that it packs anew for its kernels are each session's own.)
"""

import hashlib
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

LARGE = 1024  # bytes; what is smaller stays in the graph
_ALIGNMENT = 64


def move_weights(model: onnx.ModelProto, file: Path) -> None:
    """Write the large initializers to `file` and leave references in the graph, in place.

    A copy of the graph refers to the same file, which must stand beside the graph's own. What is
    there twice, as the weights of layers that are passed again in int8, is written once.
    """
    written: dict[bytes, int] = {}
    with file.open("wb") as out:
        for position, tensor in enumerate(model.graph.initializer):
            if tensor.data_type == TensorProto.STRING:
                continue
            content = numpy_helper.to_array(tensor).tobytes()
            if len(content) >= LARGE:
                key = hashlib.sha256(content).digest()
                if key not in written:
                    out.write(b"\0" * (-out.tell() % _ALIGNMENT))
                    written[key] = out.tell()
                    out.write(content)
                place = (file.name, written[key], len(content))
                model.graph.initializer[position].CopyFrom(_reference(tensor, *place))


def _reference(
    tensor: onnx.TensorProto, location: str, offset: int, length: int
) -> onnx.TensorProto:
    reference = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    reference.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        reference.external_data.add(key=key, value=str(value))
    return reference
