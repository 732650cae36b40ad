"""Fakes for tests of this package and of its users: no model, no port, no sleep."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from backbone import Backbone, BackboneError, Manifest, PlacedLora, TextRow
from backbone.manifest import Feature, LoraGraph, Site, Source, TextPreprocessing


class FakeBackbone(Backbone):
    """A backbone without a graph: a row's `pooled` [width] repeats its first token's id.

    LoRA adds to it the sum of a · b over the rank's first elements of each site, read from the
    pool when the run is on. `before_run` is called with the rows of each run, in the run's
    thread; what it raises fails the run.
    """

    SITES = ("layer.query", "layer.value", "layer.dense")

    def __init__(
        self,
        width: int = 8,
        before_run: Callable[[Sequence[TextRow]], None] = lambda _: None,
    ) -> None:
        self.manifest = Manifest(
            name="fake",
            source=Source(kind="onnx", id="fake", weights_sha256="0" * 64),
            preprocessing=TextPreprocessing(max_length=2**31, pad_id=0),
            features={"pooled": Feature(dims=("n", width))},
            sites={name: Site(inputs=width, outputs=width) for name in self.SITES},
            lora=(
                LoraGraph(file="lora-1.onnx", sites=self.SITES[:2]),
                LoraGraph(file="lora-2.onnx", sites=self.SITES),
            ),
            files={},
        )
        self.digest = "ab" * 32
        self.width = width
        self.batches: list[int] = []
        self._before_run = before_run

    def preprocess(self, text: str) -> TextRow:
        """One token a word; the ids are the words' lengths."""
        words = text.split() or [""]
        return TextRow(np.array([len(word) for word in words], dtype=np.int64))

    def open_lora(self, graph: int) -> None:
        """There is nothing to open. Raises IndexError where there is no such graph."""
        self.manifest.lora[graph]

    def run(
        self,
        rows: Sequence[TextRow],
        features: Collection[str],
        loras: Sequence[PlacedLora | None] = (),
    ) -> Mapping[str, NDArray[np.float32]]:
        """`pooled` for each row; remembers the batch's size."""
        self._before_run(rows)
        if unknown := set(features) - set(self.manifest.features):
            raise BackboneError(f"there is no feature {sorted(unknown)}")
        self.batches.append(len(rows))
        first = np.array([row.ids[0] for row in rows], dtype=np.float32)
        for position, lora in enumerate(loras):
            if lora is not None:
                first[position] += self._shift(lora)
        value = np.repeat(first[:, None], self.width, axis=1)
        return dict.fromkeys(features, value)

    def _shift(self, lora: PlacedLora) -> float:
        shift = 0.0
        for site in self.manifest.lora[lora.graph].sites:
            a, b = lora.pool.arrays(site)
            shift += float(np.dot(a[lora.pages, 0], b[lora.pages, 0]))
        return shift
