"""Sessions of ONNX Runtime, and which of its int8 kernels they run with.

The fast kernels are used only where they give the bits of the exact ones. The choice is made where
a backbone is loaded, so training, proofs and serving all run with the same bits.

The fast kernels multiply unsigned by signed bytes. Where the CPU has no instruction for their dot
products, they add pairs of products in 16 bits, which overflow. The exact ones (the session option
`x64quantprecision`) widen all bytes first; where the fast ones are exact too, they take up to twice
the time. No name or flag of a CPU says which kernel ONNX Runtime will choose, so it is tried.
"""

from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnxruntime as ort

from backbone.errors import BackboneError

Kernels = Literal["fast", "exact"]

PROBE_FILE: Final = Path(__file__).with_name("int8_probe.onnx")  # built by tools/int8_probe.py
PROBE_WIDTH: Final = 67  # values that are summed: no multiple of any kernel's step
PROBE_ZERO: Final = 128  # that of the backbones' activations
_PROBE_ROWS = (1, 2, 3, 5, 8, 64)  # kernels differ by the number of rows


def open_session(
    model_file: Path, threads: int = 1, kernels: Kernels = "exact"
) -> ort.InferenceSession:
    """An ONNX Runtime session with `threads` threads a run.

    Several threads calling a session of one thread are faster on CPU than one run over all.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Errors are raised, too; its own lines would pass any log by, and wait for a reader.
    options.log_severity_level = 4
    if kernels == "exact":
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return ort.InferenceSession(str(model_file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no public base class for its errors
        raise BackboneError(f"ONNX Runtime cannot load {model_file}: {error}") from error


@cache
def fast_kernels_are_exact() -> bool:
    """Tell whether the fast kernels are right here if pairs of products overflow 16 bits."""
    return has_exact_products("fast")


def has_exact_products(kernels: Kernels) -> bool:
    """Tell whether int8 products of the largest values are the exact integers."""
    session = open_session(PROBE_FILE, kernels=kernels)
    values = np.resize(np.array([255, 255, 0, 255, 255, 255, 1, 254], np.uint8), (64, PROBE_WIDTH))
    values[0] = 255
    for rows in _PROBE_ROWS:
        product, expected = session.run(["product", "expected"], {"x": values[:rows]})
        if not np.array_equal(product, expected):
            return False
    return True
