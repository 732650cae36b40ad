"""How good probabilities are, each number with its 95 % interval."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

BINS = 15
Z_95 = 1.959964
# Scores are served as float32: a probability below its resolution is not known to be smaller.
LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
# Weights of resamples held at once: 32 MiB.
CHUNK_CELLS = 4_000_000

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """What `measure` found on `rows` rows; log loss is in nats, all else is in 0..1."""

    rows: int
    accuracy: Estimate
    macro_f1: Estimate
    log_loss: Estimate
    calibration_error: Estimate


def measure(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    seed: int,
    n_bootstrap: int = 1000,
) -> Metrics:
    """Compare probabilities [n, C] with labels [n] in 0..C-1; raises ValueError on wrong shapes.

    Accuracy has Wilson's interval (1927), which stays honest at 0 and 1. The others have percentile
    bootstrap intervals over rows (Efron 1979), widened to hold the value where resamples are biased
    as the calibration error's are. That error is over 15 bins of equal width of the top probability
    (Guo et al. 2017); macro F1 is over the classes that are present or predicted.
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

    values = statistics(np.ones((1, len(y))))[0]
    resampled = np.concatenate(
        [statistics(weights) for weights in _resamples(len(y), seed, n_bootstrap, p.shape[1])]
    )
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    f1, loss, ece = (
        Estimate(float(v), float(min(lo, v)), float(max(hi, v)))
        for v, lo, hi in zip(values, low, high, strict=True)
    )
    return Metrics(len(y), _wilson(int(right.sum()), len(y)), f1, loss, ece)


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


def _resamples(n: int, seed: int, n_bootstrap: int, n_classes: int) -> Iterator[Floats]:
    """How often each row was drawn, [k, n], in chunks that make `n_bootstrap` together."""
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // max(n, n_classes))
    for start in range(0, n_bootstrap, chunk):
        k = min(chunk, n_bootstrap - start)
        drawn = generator.integers(0, n, size=(k, n)) + n * np.arange(k)[:, None]
        yield np.bincount(drawn.ravel(), minlength=k * n).reshape(k, n).astype(np.float64)


def _wilson(hits: int, n: int) -> Estimate:
    share, z2 = hits / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    # At 0 and at n hits one end is the value itself, which rounding would miss by a bit.
    low = 0.0 if hits == 0 else float(centre - half)
    high = 1.0 if hits == n else float(centre + half)
    return Estimate(share, low, high)


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
