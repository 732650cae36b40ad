"""Fakes for tests of this package and of its users: no model, no port, no sleep."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from backbone import Backbone, BackboneError, Manifest, PlacedLora, Spans, TextRow
from backbone.manifest import Feature, LoraGraph, Site, Source, TextPreprocessing


class FakeBackbone(Backbone):
    """A backbone without a graph: each of a row's `tokens` [t, width] repeats the token's id.

    `pooled` [width] is the first token's; `layers` [LAYERS, width] are `pooled` less 2, less 1, and
    as it is.

    LoRA adds to it the sum of a · b over the rank's first elements of each site, read from the
    pool when the run is on. `before_run` is called with the rows of each run, in the run's
    thread; what it raises fails the run.
    """

    LAYERS = 3
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
            features={
                "pooled": Feature(dims=("n", width)),
                "tokens": Feature(dims=("n", "t", width)),
                "layers": Feature(dims=("n", self.LAYERS, width)),
            },
            sites={name: Site(inputs=width, outputs=width) for name in self.SITES},
            lora=(
                LoraGraph(file="lora-1.onnx", sites=self.SITES[:2]),
                LoraGraph(file="lora-2.onnx", sites=self.SITES),
            ),
            files={},
        )
        self.digest = "ab" * 32
        self.kernels = "exact"
        self.width = width
        self.batches: list[int] = []
        self._before_run = before_run

    def preprocess(
        self,
        text: str,
        with_spans: bool = False,
        at_once: bool = False,  # noqa: ARG002  # as of a real one
        prompt: str | None = None,  # noqa: ARG002  # as of a real one
    ) -> TextRow:
        """One token a word; the ids are the words' lengths."""
        ids = np.array([len(word) for word in text.split() or [""]], dtype=np.int64)
        if not with_spans:
            return TextRow(ids)
        characters = tuple(match.span() for match in re.finditer(r"\S+", text))
        return TextRow(ids, Spans(np.arange(len(characters)), characters))

    def preprocess_all(
        self,
        texts: Sequence[str],
        with_spans: bool = False,
        prompt: str | None = None,  # noqa: ARG002  # as of a real one
    ) -> list[TextRow]:
        """Make one row per text."""
        return [self.preprocess(text, with_spans) for text in texts]

    def run(
        self,
        rows: Sequence[TextRow],
        features: Collection[str],
        loras: Sequence[PlacedLora | None] = (),
    ) -> Mapping[str, NDArray[np.float32]]:
        """The features of each row; remembers the batch's size."""
        self._before_run(rows)
        if unknown := set(features) - set(self.manifest.features):
            raise BackboneError(f"there is no feature {sorted(unknown)}")
        self.batches.append(len(rows))
        ids = np.zeros((len(rows), max(row.length for row in rows)), dtype=np.float32)
        for position, row in enumerate(rows):
            ids[position, : row.length] = row.ids
        for position, lora in enumerate(loras):
            if lora is not None:
                ids[position] += self._shift(lora)
        tokens = np.repeat(ids[:, :, None], self.width, axis=2)
        pooled = np.ascontiguousarray(tokens[:, 0])
        below = np.arange(1 - self.LAYERS, 1, dtype=np.float32)
        layers = pooled[:, None] + below[:, None]
        values = {"pooled": pooled, "tokens": tokens, "layers": layers}
        return {name: values[name] for name in features}

    def _shift(self, lora: PlacedLora) -> float:
        shift = 0.0
        for site in self.manifest.lora[lora.graph].sites:
            a, b = lora.pool.arrays(site)
            shift += float(np.dot(a[lora.pages, 0], b[lora.pages, 0]))
        return shift
