"""How near one vector is to each of many: cosine, or the negative squared distance."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from adapters.heads.base import Floats
from adapters.manifest import Metric

_BLOCK_ROWS = 256  # differences are made for so many at once, not for a whole file's


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """Similarities to the rows of `points` [m, d]; `norms` [m] are kept for cosine alone."""

    points: Floats
    norms: NDArray[np.float64] | None

    @classmethod
    def build(cls, points: Floats, metric: Metric) -> Self:
        """For one of the two metrics."""
        return cls(points, _norms(points) if metric == "cosine" else None)

    def of(self, vector: Floats) -> NDArray[np.float64]:
        """Similarities [m] of one vector [d], larger is nearer.

        A vector of zeros has cosine 0 with everything.
        """
        if self.norms is None:
            return -self._squared_distances(vector)
        products = np.einsum("ij,j->i", self.points, vector).astype(np.float64)
        scales = self.norms * _norms(vector)
        cosines: NDArray[np.float64] = np.zeros_like(products)
        np.divide(products, scales, out=cosines, where=scales != 0)
        return cosines

    def _squared_distances(self, vector: Floats) -> NDArray[np.float64]:
        """By differences: the sum of squares less twice the product loses what is near."""
        distances = np.empty(len(self.points), dtype=np.float64)
        for start in range(0, len(distances), _BLOCK_ROWS):
            gaps = self.points[start : start + _BLOCK_ROWS] - vector
            distances[start : start + _BLOCK_ROWS] = np.einsum("ij,ij->i", gaps, gaps)
        return distances


def _norms(vectors: Floats) -> NDArray[np.float64]:
    """Lengths of vectors [..., d], summed in float64."""
    squares = np.einsum("...j,...j->...", vectors, vectors, dtype=np.float64)
    lengths: NDArray[np.float64] = np.sqrt(squares)
    return lengths
