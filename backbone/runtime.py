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
from backbone.files import PrivateFiles
from backbone.kernels import Kernels, fast_kernels_are_exact, open_session
from backbone.lora import PAGES, LoraPool, PlacedLora, pages_of_rows, smallest_graph
from backbone.manifest import MODEL_FILE, TOKENIZER_FILE, WEIGHTS_FILE, Manifest
from backbone.samples import SAMPLE_TEXTS
from backbone.text import KNOWN_INPUTS, TextPreprocessor, TextRow

Features = Mapping[str, NDArray[np.float32]]


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

    Each run of the graph takes `threads` threads. `kernels` are those of its int8 products.
    """

    def __init__(self, files: PrivateFiles, manifest: Manifest, threads: int = 1) -> None:
        self.manifest = manifest
        self.digest = manifest.digest
        self._files = files
        self._threads = threads
        with files.folder() as folder:
            self._preprocessor = TextPreprocessor(folder / TOKENIZER_FILE, manifest.preprocessing)
            self._session = open_session(folder / MODEL_FILE, threads, "exact")
            self._inputs = [node.name for node in self._session.get_inputs()]
            if unknown := set(self._inputs) - KNOWN_INPUTS:
                raise BackboneError(
                    f"the graph {MODEL_FILE} of backbone {manifest.name} wants inputs that a text "
                    f"does not give: {sorted(unknown)}; known are {sorted(KNOWN_INPUTS)}"
                )
            self.kernels: Kernels = "exact"
            if manifest.precision == "int8" and fast_kernels_are_exact():
                self._use_if_same(open_session(folder / MODEL_FILE, threads, "fast"))
        self._lora_sessions: dict[int, ort.InferenceSession] = {}
        self._opening = Lock()

    @property
    def name(self) -> str:
        """The local name under which the backbone was added."""
        return self.manifest.name

    @property
    def folder(self) -> Path:
        """The folder that the backbone was loaded from."""
        return self._files.source

    @property
    def computer(self) -> str:
        """What equal bits are promised on: this ONNX Runtime on this kind of CPU."""
        return f"onnxruntime {ort.__version__}, {_cpu()}"

    def preprocess(
        self,
        text: str,
        with_spans: bool = False,
        at_once: bool = False,
        prompt: str | None = None,
    ) -> TextRow:
        """One text to one row, with its tokens' places in the text if asked for.

        `at_once` for short texts alone: it keeps the interpreter from other threads meanwhile.
        `prompt` stands in place of the manifest's own.
        """
        return self._preprocessor.row(text, with_spans, at_once, prompt)

    def text_of(self, ids: Sequence[int]) -> str | None:
        """The text of which the tokenizer makes exactly these ids; None if it would for none."""
        return self._preprocessor.text_of(ids)

    def preprocess_all(
        self, texts: Sequence[str], with_spans: bool = False, prompt: str | None = None
    ) -> list[TextRow]:
        """Make the rows of several texts in one call, with the same result as one by one."""
        return self._preprocessor.rows(texts, with_spans, prompt)

    def collate(self, rows: Sequence[TextRow], inputs: Sequence[str]) -> dict[str, Any]:
        """Graph inputs of these names for `rows`: arrays [n, t], int64."""
        return dict(self._preprocessor.collate(rows, inputs))

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

    def _use_if_same(self, fast: ort.InferenceSession) -> None:
        """Run with the fast kernels if they give each sample text the bits of the exact ones."""
        features = list(self.manifest.features)
        for text in SAMPLE_TEXTS:
            feeds = self._preprocessor.collate([self.preprocess(text)], self._inputs)
            pairs = zip(fast.run(features, feeds), self._session.run(features, feeds), strict=True)
            if not all(np.array_equal(found, exact) for found, exact in pairs):
                return
        self._session, self.kernels = fast, "fast"

    def _covering(self, graphs: set[int]) -> int:
        """The smallest LoRA graph with all sites of `graphs`."""
        if len(graphs) == 1:
            return next(iter(graphs))
        sites = [frozenset(graph.sites) for graph in self.manifest.lora]
        return smallest_graph(sites, frozenset().union(*(sites[graph] for graph in graphs)))

    def _lora_session(self, graph: int) -> ort.InferenceSession:
        session = self._lora_sessions.get(graph)
        if session is None:
            names = self.manifest.files
            with self._opening:  # once, however many threads are the first
                session = self._lora_sessions.get(graph)
                if session is None:
                    # Long after the start: the backbone's folder may hold another one by now.
                    file = self.manifest.lora[graph].file
                    with self._files.folder(*{file, WEIGHTS_FILE} & set(names)) as folder:
                        session = open_session(folder / file, self._threads, self.kernels)
                    self._lora_sessions[graph] = session
        return session
