"""Classification: exactly one label fits a row."""

from dataclasses import dataclass
from typing import ClassVar, Self

from adapters.answers import Classified, rank
from adapters.manifest import Manifest
from adapters.tasks.base import Floats, softmax


@dataclass(frozen=True, slots=True)
class Classification:
    """Scores are softmax(raw / T); temperature after Guo et al. 2017."""

    PER_TOKEN: ClassVar[bool] = False

    labels: tuple[str, ...]
    temperature: float

    @classmethod
    def build(cls, manifest: Manifest) -> Self:
        """With the manifest's labels and temperature."""
        return cls(manifest.labels, manifest.temperature)

    def scores(self, raw: Floats) -> Floats:
        """Probabilities [C] that sum to 1."""
        return softmax(raw, self.temperature)

    def answer(self, scores: Floats, top_k: int) -> Classified:
        """The `top_k` most probable labels."""
        return Classified(rank(self.labels, scores, top_k))
