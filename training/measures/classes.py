"""How good probabilities of classes are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from adapters.manifest import Estimate
from training.measures.intervals import bootstrap, share

BINS = 15
# Scores are served as float32: a probability below its resolution is not known to be smaller.
LEAST_PROBABILITY = float(np.finfo(np.float32).eps)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def measure(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    seed: int,
    n_bootstrap: int = 1000,
) -> dict[str, Estimate]:
    """Compare probabilities [n, C] with labels [n] in 0..C-1; raises ValueError on wrong shapes.

    Accuracy, macro F1, log loss in nats, calibration error. That error is over 15 bins of equal
    width of the top probability (Guo et al. 2017); macro F1 is over the classes that are present or
    predicted.
    """
    p, y = _checked(probabilities, labels)
    predicted = p.argmax(axis=1)
    right = predicted == y
    losses = -np.log(np.clip(p[np.arange(len(y)), y], LEAST_PROBABILITY, 1.0))
    gaps = _bin_gaps(p.max(axis=1), right)
    counts = _class_counts(y, predicted, p.shape[1])

    def statistics(weights: Floats) -> Floats:
        """[k, 3] from row weights [k, n] that sum to n in each resample."""
        return np.stack(
            [
                _macro_f1(weights, counts),
                weights @ losses / len(y),
                np.abs(weights @ gaps).sum(axis=1) / len(y),
            ],
            axis=1,
        )

    resampled = bootstrap(statistics, len(y), seed, n_bootstrap, p.shape[1])
    names = ("macro_f1", "log_loss", "calibration_error")
    return {
        "accuracy": share(int(right.sum()), len(y)),
        **dict(zip(names, resampled, strict=True)),
    }


@dataclass(frozen=True, slots=True)
class _ClassCounts:
    """Sparse [n, C] indicators of each row's class: the true one, the predicted one, both."""

    true: csr_array
    predicted: csr_array
    hit: csr_array


def _class_counts(y: Integers, predicted: Integers, n_classes: int) -> _ClassCounts:
    def indicator(classes: Integers, on: NDArray[np.bool_]) -> csr_array:
        rows = np.flatnonzero(on)
        shape = (len(classes), n_classes)
        return csr_array((np.ones(len(rows)), (rows, classes[rows])), shape=shape)

    every = np.ones(len(y), dtype=bool)
    return _ClassCounts(
        indicator(y, every), indicator(predicted, every), indicator(y, y == predicted)
    )


def _macro_f1(weights: Floats, counts: _ClassCounts) -> Floats:
    """[k]: the mean of 2 hit / (true + predicted) over the classes that occur in the resample."""
    both = weights @ counts.true + weights @ counts.predicted
    occurs = both > 0
    f1 = np.divide(2 * (weights @ counts.hit), both, out=np.zeros_like(both), where=occurs)
    result: Floats = f1.sum(axis=1) / occurs.sum(axis=1)
    return result


def _bin_gaps(confidence: Floats, right: NDArray[np.bool_]) -> Floats:
    """[n, BINS]: confidence minus correctness, in the column of the row's bin (low, high]."""
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.zeros((len(bins), BINS))
    gaps[np.arange(len(bins)), bins] = confidence - right
    return gaps


def _checked(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> tuple[Floats, Integers]:
    p = np.asarray(probabilities, dtype=np.float64)
    y = np.asarray(labels, dtype=np.int64)
    if p.ndim != 2 or y.shape != p.shape[:1] or not p.size:
        raise ValueError(f"probabilities must be [n, C] and labels [n], not {p.shape}, {y.shape}")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise ValueError(f"labels must lie in 0..{p.shape[1] - 1}")
    if not (np.abs(p.sum(axis=1) - 1) < 1e-3).all() or p.min() < 0:
        raise ValueError("each row of probabilities must be 0 or more and sum to 1")
    return p, y
