"""Multi-label classification: any number of labels fits a row."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from adapters.answers import MultiLabelled, best_first, named
from adapters.manifest import Manifest
from adapters.tasks.base import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Multilabel:
    """Scores are sigmoid(raw / T); a label applies where its score reaches its threshold."""

    PER_TOKEN: ClassVar[bool] = False

    labels: tuple[str, ...]
    temperature: float
    thresholds: Floats

    @classmethod
    def build(cls, manifest: Manifest) -> Self:
        """With the manifest's labels, temperature and thresholds."""
        thresholds = np.array(manifest.thresholds, dtype=np.float32)
        return cls(manifest.labels, manifest.temperature, thresholds)

    def scores(self, raw: Floats) -> Floats:
        """Probabilities [C], each of its own."""
        scaled = raw.astype(np.float64) / self.temperature
        with np.errstate(over="ignore"):  # exp(-x) may be infinite: the score is then 0
            probabilities: Floats = (1 / (1 + np.exp(-scaled))).astype(np.float32)
        return probabilities

    def answer(self, scores: Floats, top_k: int) -> MultiLabelled:
        """The labels that apply, and the `top_k` most probable ones; both best first."""
        order = best_first(scores)
        applying = order[scores[order] >= self.thresholds[order]]
        return MultiLabelled(
            named(self.labels, scores, applying), named(self.labels, scores, order[:top_k])
        )
