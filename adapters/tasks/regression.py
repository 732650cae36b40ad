"""Regression: a value for each named target."""

from dataclasses import dataclass
from typing import ClassVar, Self

from adapters.answers import Estimated
from adapters.manifest import Manifest
from adapters.tasks.base import Floats


@dataclass(frozen=True, slots=True)
class Regression:
    """The raw outputs are the values; scaling is folded into the head's weights."""

    PER_TOKEN: ClassVar[bool] = False

    targets: tuple[str, ...]

    @classmethod
    def build(cls, manifest: Manifest) -> Self:
        """With the manifest's labels, which name the targets."""
        return cls(manifest.labels)

    def scores(self, raw: Floats) -> Floats:
        """The values [C] as they are."""
        return raw

    def answer(self, scores: Floats, top_k: int) -> Estimated:  # noqa: ARG002  # nothing to rank
        """A value a target."""
        return Estimated(dict(zip(self.targets, map(float, scores), strict=True)))
