"""Tagging: a BIO label for each token, tokens joined to entities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from adapters.answers import Entity, Tagged
from adapters.manifest import OUTSIDE, Manifest
from adapters.tasks.base import Floats, softmax


@dataclass(frozen=True, slots=True)
class Tagging:
    """Scores are softmax(raw / T) for each token."""

    PER_TOKEN: ClassVar[bool] = True

    labels: tuple[str, ...]
    temperature: float

    @classmethod
    def build(cls, manifest: Manifest) -> Self:
        """With the manifest's labels and temperature."""
        return cls(manifest.labels, manifest.temperature)

    def scores(self, raw: Floats) -> Floats:
        """Probabilities [..., C] that sum to 1 over the labels of each token."""
        return softmax(raw, self.temperature)

    def answer(self, scores: Floats, top_k: int) -> Tagged:  # noqa: ARG002  # a token has one label
        """The entities of tokens with scores [t, C]; each token takes its most probable label."""
        best = scores.argmax(axis=-1)  # of equal scores the first label's
        tags = [self.labels[index] for index in best]
        found = [float(row[index]) for row, index in zip(scores, best, strict=True)]
        return Tagged(join_entities(tags, found))


def join_entities(tags: Sequence[str], scores: Sequence[float]) -> tuple[Entity, ...]:
    """Entities of BIO tags; an entity's score is the mean of its tokens' scores.

    "B-x" begins an entity; "I-x" goes on with an entity x, and begins one where none is open, as
    in the simple aggregation of Hugging Face's token classification.
    """
    entities: list[Entity] = []
    first = 0
    for position in range(len(tags)):
        if _goes_on(tags, position):
            continue
        _close(entities, tags, scores, first, position)
        first = position
    _close(entities, tags, scores, first, len(tags))
    return tuple(entities)


def _goes_on(tags: Sequence[str], position: int) -> bool:
    """Whether a token belongs to the entity of the token before it."""
    tag = tags[position]
    return position > 0 and tag.startswith("I-") and tags[position - 1][1:] == tag[1:]


def _close(
    entities: list[Entity], tags: Sequence[str], scores: Sequence[float], first: int, end: int
) -> None:
    if first < end and tags[first] != OUTSIDE:
        mean = float(np.float32(sum(scores[first:end]) / (end - first)))
        entities.append(Entity(tags[first][2:], mean, first, end))
