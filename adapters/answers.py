"""What an adapter answers to one row: one type a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ranked = tuple[tuple[str, float], ...]  # labels with their scores, best first


@dataclass(frozen=True, slots=True)
class Classified:
    """The best labels of a row, never none."""

    top: Ranked


@dataclass(frozen=True, slots=True)
class MultiLabelled:
    """The labels that reach their thresholds, maybe none; and the best labels, whether or not."""

    labels: Ranked
    top: Ranked


@dataclass(frozen=True, slots=True)
class Estimated:
    """A value a target."""

    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Entity:
    """Tokens `first` to `end` (one past the last), counted among the tokens that were given."""

    label: str
    score: float
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Tagged:
    """The entities of a row, in the order of its tokens; no two overlap."""

    entities: tuple[Entity, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A feature itself, which no head was asked about."""

    vector: NDArray[np.float32]


Answer = Classified | MultiLabelled | Estimated | Tagged | Embedded


def rank(labels: Sequence[str], scores: NDArray[np.float32], top_k: int) -> Ranked:
    """The `top_k` labels by falling score; equal scores keep the labels' order."""
    return named(labels, scores, best_first(scores)[:top_k])


def best_first(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Places by falling score; equal scores keep their order."""
    return np.argsort(-scores, kind="stable")


def named(labels: Sequence[str], scores: NDArray[np.float32], places: NDArray[np.intp]) -> Ranked:
    """The labels at `places` with their scores."""
    return tuple((labels[place], float(scores[place])) for place in places)
