"""A loaded backbone: preprocess a text, run rows through the frozen graph.

The promise on which everything stands: a row's features are the same to the bit whatever else is
in its batch, and however far it is padded. `backbone/stability.py` proves it for each backbone
before it may be used.
"""

import platform
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from backbone.errors import BackboneError
from backbone.manifest import MODEL_FILE, TOKENIZER_FILE, Manifest
from backbone.text import KNOWN_INPUTS, TextPreprocessor, TextRow

Features = Mapping[str, NDArray[np.float32]]


def open_session(model_file: Path) -> ort.InferenceSession:
    """An ONNX Runtime session with one thread a run.

    Several threads calling one such session are faster on CPU than one run over all threads.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone; its warnings are about graph optimisation
    try:
        return ort.InferenceSession(str(model_file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no public base class for its errors
        raise BackboneError(f"ONNX Runtime cannot load {model_file}: {error}") from error


@cache
def _cpu() -> str:
    """The CPU's name, on which ONNX Runtime chooses its kernels; its family where there is none."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


class Backbone:
    """One frozen graph with its preprocessing. Safe to call from several threads at once."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.digest = manifest.digest
        self._preprocessor = TextPreprocessor(folder / TOKENIZER_FILE, manifest.preprocessing)
        self._session = open_session(folder / MODEL_FILE)
        self._inputs = [node.name for node in self._session.get_inputs()]
        if unknown := set(self._inputs) - KNOWN_INPUTS:
            raise BackboneError(
                f"the graph {folder / MODEL_FILE} wants inputs that a text does not give: "
                f"{sorted(unknown)}; known are {sorted(KNOWN_INPUTS)}"
            )

    @property
    def name(self) -> str:
        """The local name under which the backbone was added."""
        return self.manifest.name

    @property
    def computer(self) -> str:
        """What equal bits are promised on: this ONNX Runtime on this kind of CPU."""
        return f"onnxruntime {ort.__version__}, {_cpu()}"

    def preprocess(self, text: str, with_spans: bool = False) -> TextRow:
        """One text to one row, with its tokens' places in the text if asked for."""
        return self._preprocessor.row(text, with_spans)

    def run(self, rows: Sequence[TextRow], features: Collection[str]) -> Features:
        """Run `rows` (at least one) as one batch; each feature comes as [n, ...], float32.

        A feature with a token axis is padded to the longest row.
        """
        names = sorted(features)
        feeds = self._preprocessor.collate(rows, self._inputs)
        try:
            arrays = self._session.run(names, feeds)
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            shape = feeds[self._inputs[0]].shape
            raise BackboneError(f"the graph cannot run rows of shape {shape}: {error}") from error
        return dict(zip(names, arrays, strict=True))
