"""How good found entities are: exact spans with their types."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import Estimate
from training.data.spans import TypedSpan
from training.measures.intervals import bootstrap

Floats = NDArray[np.float64]


def measure(
    found: Sequence[Sequence[TypedSpan]],
    true: Sequence[Sequence[TypedSpan]],
    *,
    seed: int,
    n_bootstrap: int = 1000,
) -> dict[str, Estimate]:
    """F1, precision and recall over all entities, intervals over rows; each a row's entities.

    As CoNLL counts (Tjong Kim Sang and De Meulder 2003): right is what has the very span and type
    of a true entity. A figure of nothing, such as the precision where none is found, is 0.
    """
    counts = np.array(
        [_counts(ours, theirs) for ours, theirs in zip(found, true, strict=True)], dtype=float
    )

    def statistics(weights: Floats) -> Floats:
        """[k, 3] from row weights [k, n]."""
        hits, n_found, n_true = (weights @ counts).T
        return np.stack(
            [
                _ratio(2 * hits, n_found + n_true),
                _ratio(hits, n_found),
                _ratio(hits, n_true),
            ],
            axis=1,
        )

    names = ("entity_f1", "entity_precision", "entity_recall")
    return dict(zip(names, bootstrap(statistics, len(counts), seed, n_bootstrap), strict=True))


def token_accuracy(
    right: Sequence[int], tokens: Sequence[int], *, seed: int, n_bootstrap: int = 1000
) -> Estimate:
    """The share of tokens with the right tag, from each row's counts; the interval is over rows."""
    counts = np.array([right, tokens], dtype=float).T

    def statistics(weights: Floats) -> Floats:
        hits, n = (weights @ counts).T
        return _ratio(hits, n)[:, None]

    (estimate,) = bootstrap(statistics, len(counts), seed, n_bootstrap)
    return estimate


def _counts(found: Sequence[TypedSpan], true: Sequence[TypedSpan]) -> tuple[int, int, int]:
    """Right, found and true entities; one that is found twice is right once."""
    return len(set(found) & set(true)), len(found), len(true)


def _ratio(part: Floats, whole: Floats) -> Floats:
    result: Floats = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
    return result
