"""`python -m tools.int8_probe`: build the graph by which int8 kernels are tried (kernels.py)."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from backbone.kernels import PROBE_FILE, PROBE_WIDTH, PROBE_ZERO

_COLUMNS = 35  # no multiple of any kernel's width
_OPSET = 21


def weights() -> NDArray[np.int8]:
    """Weights [PROBE_WIDTH, _COLUMNS]: all the largest, all the lowest, or pairs of both signs."""
    pairs = np.where(np.arange(PROBE_WIDTH) // 2 % 2, 127, -127)
    kinds = np.stack([np.full(PROBE_WIDTH, 127), np.full(PROBE_WIDTH, -127), pairs], axis=1)
    return np.tile(kinds, (1, _COLUMNS // 3 + 1))[:, :_COLUMNS].astype(np.int8)


def build() -> bytes:
    """`product` [n, m] by the int8 kernel and `expected` [n, m] in float32, of `x` uint8 [n, k]."""
    constants = {
        "weights": weights(),
        "weights_float": weights().astype(np.float32),
        "one": np.array(1, np.float32),
        "scales": np.ones(_COLUMNS, np.float32),
        "zero": np.array(PROBE_ZERO, np.uint8),
        "zero_float": np.array(PROBE_ZERO, np.float32),
    }
    node = helper.make_node
    nodes = [
        node(
            "MatMulIntegerToFloat",
            ["x", "weights", "one", "scales", "zero"],
            ["product"],
            domain="com.microsoft",
        ),
        node("Cast", ["x"], ["x_float"], to=TensorProto.FLOAT),
        node("Sub", ["x_float", "zero_float"], ["centred"]),
        node("MatMul", ["centred", "weights_float"], ["expected"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "int8-probe",
        [value("x", TensorProto.UINT8, ["n", PROBE_WIDTH])],
        [value(name, TensorProto.FLOAT, ["n", _COLUMNS]) for name in ("product", "expected")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    PROBE_FILE.write_bytes(build())
