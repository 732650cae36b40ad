"""What every task is: the meaning of a head's raw outputs."""

from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from adapters.answers import Answer
from adapters.manifest import Manifest

Floats = NDArray[np.float32]


class Task(Protocol):
    """Raw outputs to scores to an answer. Immutable, and safe to call from several threads."""

    PER_TOKEN: ClassVar[bool]  # whether a row is many vectors [t, d], or one [d]

    @classmethod
    def build(cls, manifest: Manifest) -> Self:
        """The task with the settings of a valid manifest."""
        ...

    def scores(self, raw: Floats) -> Floats:
        """Finite raw outputs [..., C] to scores [..., C], each vector as if it were alone."""
        ...

    def answer(self, scores: Floats, top_k: int) -> Answer:
        """The answer of one row: scores [C], or [t, C] where the task is per token."""
        ...


def softmax(raw: Floats, temperature: float) -> Floats:
    """Probabilities over the last axis, computed in float64.

    A vector's bits do not depend on the others: the sums are over the last axis, which lies
    together in memory.
    """
    scaled = raw.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: Floats = (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(
        np.float32
    )
    return probabilities
