"""Vectors as a similarity of the format sees them, many at once."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import Metric
from training.heads.base import Floats, as_finite

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")
MAX_SCALE = 1e6  # of the format
# Vectors that are equal must be equally near; a product of matrices may round them apart.
_DECIMALS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Vectors x [m, d], float64: of length 1 for cosine, centred for euclidean.

    `spread`, their mean squared distance from their mean, is the unit of similarities here, so that
    a scale means the same for both metrics and on every backbone. `origin` [d] was taken out.
    """

    x: Floats
    metric: Metric
    spread: float
    origin: Floats

    @classmethod
    def of(cls, features: NDArray[np.float32], metric: Metric) -> Self:
        """Raises InvalidData for a vector that is not finite."""
        x = as_finite(features)
        if metric == "cosine":
            x = _unit(x)
        origin = x.mean(axis=0)
        spread = float(((x - origin) ** 2).sum(axis=1).mean()) or 1.0
        if metric == "cosine":  # measured from zero
            return cls(x, metric, spread, np.zeros_like(origin))
        return cls(x - origin, metric, spread, origin)

    def similarities(self, vectors: Floats, points: Floats) -> Floats:
        """[n, p] of vectors [n, d] and points [p, d] of this space, in units of the spread."""
        if self.metric == "cosine":
            found = vectors @ _unit(points).T
        else:
            squares = (vectors**2).sum(axis=1)[:, None] + (points**2).sum(axis=1)
            found = 2 * vectors @ points.T - squares
        return np.round(found / self.spread, _DECIMALS)

    def scale(self, factor: float) -> float:
        """The head's scale, which does what the factor does to similarities of this space."""
        return min(factor / self.spread, MAX_SCALE)

    def restored(self, points: Floats) -> NDArray[np.float32]:
        """Points of this space as the head stores them."""
        return (points + self.origin).astype(np.float32)


def _unit(x: Floats) -> Floats:
    """Of length 1; zeros stay, as in the head."""
    lengths = np.sqrt((x**2).sum(axis=1, keepdims=True))
    unit: Floats = np.divide(x, lengths, out=np.zeros_like(x), where=lengths > 0)
    return unit
