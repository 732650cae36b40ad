"""Classes spread from labelled vectors to others near them, along a graph of nearest neighbours.

Label spreading of Zhou et al. 2003, where vectors without a label start from what a head thinks of
them.
"""

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from training.heads.base import Floats

NEIGHBOURS = 10
_POWER = 4  # of a cosine: near neighbours count more than those that just made it
_KEPT = 0.9  # of what neighbours say; the rest is what a vector starts from
_STEPS = 25  # by then a fourteenth of the first step is left, and nearly no class changes
_BALANCING_STEPS = 10
_SIMILARITIES_AT_ONCE = 16_000_000
_LEAST = 1e-12


def neighbour_graph(x: NDArray[np.float32]) -> scipy.sparse.csr_array:
    """Symmetric, normalised weights [m, m] between each of the vectors x [m, d] and those nearest.

    Near is the cosine of centred vectors: many backbones share most of each among all texts.
    """
    centred = x - x.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), _LEAST)
    n, k = len(x), min(NEIGHBOURS, len(x) - 1)
    nearest, weights = np.empty((n, k), dtype=np.int64), np.empty((n, k))
    step = max(1, _SIMILARITIES_AT_ONCE // n)
    for start in range(0, n, step):
        part = slice(start, min(n, start + step))
        near = unit[part] @ unit.T
        near[np.arange(len(near)), np.arange(part.start, part.stop)] = -np.inf  # itself
        nearest[part] = np.argpartition(-near, k - 1, axis=1)[:, :k]
        weights[part] = np.take_along_axis(near, nearest[part], axis=1)
    weights = np.maximum(weights, 0.0) ** _POWER
    rows = np.repeat(np.arange(n), k)
    one_way = scipy.sparse.csr_array((weights.ravel(), (rows, nearest.ravel())), shape=(n, n))
    graph = one_way + one_way.T
    scale = 1 / np.sqrt(np.maximum(np.asarray(graph.sum(axis=1)).ravel(), _LEAST))
    diagonal = scipy.sparse.dia_array((scale[None], [0]), shape=(n, n))
    return scipy.sparse.csr_array(diagonal @ graph @ diagonal, dtype=np.float32)


def spread(graph: scipy.sparse.csr_array, start: Floats) -> Floats:
    """Probabilities [m, C] of the classes of all vectors, from the `start` [m, C] of each."""
    first = start.astype(np.float32)  # in half of the time
    found = first
    for _ in range(_STEPS):
        found = _KEPT * (graph @ found) + first
    sums = found.astype(np.float64)
    probabilities: Floats = sums / sums.sum(axis=1, keepdims=True)
    return probabilities


def balanced(found: Floats, shares: Floats) -> Floats:
    """Probabilities [m, C] near to `found`, with the `shares` [C] (Sinkhorn and Knopp 1967)."""
    for _ in range(_BALANCING_STEPS):
        found = found * (shares / np.maximum(found.mean(axis=0), _LEAST))
        found = found / found.sum(axis=1, keepdims=True)
    return found
