"""A loaded backbone: preprocess a text, run rows through the frozen graph.

The promise on which everything stands: a row's features are the same to the bit whatever else is
in its batch, however far it is padded, and whichever graph the LoRA of its neighbours calls for.
`backbone/stability.py` proves it for each backbone before it may be used.
"""

import platform
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from backbone.errors import BackboneError
from backbone.files import verify_file
from backbone.lora import PAGES, LoraPool, PlacedLora, pages_of_rows, smallest_graph
from backbone.manifest import MODEL_FILE, TOKENIZER_FILE, WEIGHTS_FILE, Manifest
from backbone.text import KNOWN_INPUTS, TextPreprocessor, TextRow

Features = Mapping[str, NDArray[np.float32]]


def open_session(model_file: Path, threads: int = 1) -> ort.InferenceSession:
    """An ONNX Runtime session with `threads` threads a run.

    Several threads calling a session of one thread are faster on CPU than one run over all.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone; its warnings are about graph optimisation
    # Without VNNI the usual int8 kernels add pairs of products in 16 bits, which overflow.
    options.add_session_config_entry("session.x64quantprecision", "1")
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
    """One frozen graph with its preprocessing. Safe to call from several threads at once.

    Each run of the graph takes `threads` threads.
    """

    def __init__(self, folder: Path, manifest: Manifest, threads: int = 1) -> None:
        self.manifest = manifest
        self.digest = manifest.digest
        self._preprocessor = TextPreprocessor(folder / TOKENIZER_FILE, manifest.preprocessing)
        self._folder = folder
        self._threads = threads
        self._session = open_session(folder / MODEL_FILE, threads)
        self._inputs = [node.name for node in self._session.get_inputs()]
        if unknown := set(self._inputs) - KNOWN_INPUTS:
            raise BackboneError(
                f"the graph {folder / MODEL_FILE} wants inputs that a text does not give: "
                f"{sorted(unknown)}; known are {sorted(KNOWN_INPUTS)}"
            )
        self._lora_sessions: dict[int, ort.InferenceSession] = {}
        self._opening = Lock()

    @property
    def name(self) -> str:
        """The local name under which the backbone was added."""
        return self.manifest.name

    @property
    def computer(self) -> str:
        """What equal bits are promised on: this ONNX Runtime on this kind of CPU."""
        return f"onnxruntime {ort.__version__}, {_cpu()}"

    def preprocess(self, text: str, with_spans: bool = False, at_once: bool = False) -> TextRow:
        """One text to one row, with its tokens' places in the text if asked for.

        `at_once` for short texts alone: it keeps the interpreter from other threads meanwhile.
        """
        return self._preprocessor.row(text, with_spans, at_once)

    def lora_pool(self, ranks: int) -> LoraPool:
        """A pool for the LoRA weights of this backbone's rows, of `ranks` ranks in all.

        Raises:
            BackboneError: the backbone has no LoRA graph.
        """
        if not self.manifest.lora:
            raise BackboneError(
                f"backbone {self.name} was added without LoRA graphs; add it again under another "
                "name, with --lora all"
            )
        return LoraPool(self.manifest.sites, self.manifest.lora, ranks)

    def run(
        self,
        rows: Sequence[TextRow],
        features: Collection[str],
        loras: Sequence[PlacedLora | None] = (),
    ) -> Features:
        """Run `rows` (at least one) as one batch; each feature comes as [n, ...], float32.

        `loras` has one entry a row, or none at all; all from one pool. A feature with a token
        axis is padded to the longest row, and to two tokens at least.
        """
        names = list(features)
        feeds: dict[str, Any] = self._preprocessor.collate(rows, self._inputs)
        placed = [lora for lora in loras if lora is not None]
        if placed:
            pool = placed[0].pool
            if len(loras) != len(rows) or any(lora.pool is not pool for lora in placed):
                raise BackboneError(f"{len(rows)} rows take as many entries of LoRA, of one pool")
            graph = self._covering({lora.graph for lora in placed})
            feeds |= pool.feeds(graph)
            feeds[PAGES] = pages_of_rows(loras)
            session = self._lora_session(graph)
        else:
            session = self._session
        try:
            arrays = session.run(names, feeds)
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            shape = feeds[self._inputs[0]].shape
            raise BackboneError(f"the graph cannot run rows of shape {shape}: {error}") from error
        return dict(zip(names, arrays, strict=True))

    def _covering(self, graphs: set[int]) -> int:
        """The smallest LoRA graph with all sites of `graphs`."""
        if len(graphs) == 1:
            return next(iter(graphs))
        sites = [frozenset(graph.sites) for graph in self.manifest.lora]
        return smallest_graph(sites, frozenset().union(*(sites[graph] for graph in graphs)))

    def _lora_session(self, graph: int) -> ort.InferenceSession:
        session = self._lora_sessions.get(graph)
        if session is None:
            with self._opening:  # once, however many threads are the first
                session = self._lora_sessions.get(graph)
                if session is None:
                    file = self.manifest.lora[graph].file
                    # Long after the start: the folder may hold another backbone by now.
                    for name in {file, WEIGHTS_FILE} & set(self.manifest.files):
                        verify_file(self._folder, name, self.manifest.files[name])
                    session = open_session(self._folder / file, self._threads)
                    self._lora_sessions[graph] = session
        return session
