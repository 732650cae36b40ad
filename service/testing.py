"""Fakes for tests of this package and of its users: no model, no port, no sleep."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from backbone import Backbone, BackboneError, Manifest, TextRow
from backbone.manifest import Feature, Source, TextPreprocessing


class FakeBackbone(Backbone):
    """A backbone without a graph: a row's `pooled` [width] repeats its first token's id.

    `before_run` is called with the rows of each run, in the run's thread; what it raises fails
    the run.
    """

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

    def run(
        self, rows: Sequence[TextRow], features: Collection[str]
    ) -> Mapping[str, NDArray[np.float32]]:
        """`pooled` for each row; remembers the batch's size."""
        self._before_run(rows)
        if unknown := set(features) - set(self.manifest.features):
            raise BackboneError(f"there is no feature {sorted(unknown)}")
        self.batches.append(len(rows))
        first = np.array([row.ids[0] for row in rows], dtype=np.float32)
        value = np.repeat(first[:, None], self.width, axis=1)
        return dict.fromkeys(features, value)
