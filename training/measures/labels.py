"""How good answers of any number of labels are."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from adapters.manifest import Estimate
from training.measures.classes import LEAST_PROBABILITY
from training.measures.intervals import bootstrap, share

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def measure(
    scores: NDArray[np.floating],
    answered: Flags,
    applies: Flags,
    *,
    seed: int,
    n_bootstrap: int = 1000,
) -> dict[str, Estimate]:
    """Compare what was `answered` with what `applies`, and the scores too; all are [n, C].

    Micro F1, macro F1, the share of rows whose labels are all and exactly found, binary log loss in
    nats a label. Macro F1 is over the labels that apply or are answered anywhere; where none is,
    nothing is wrong and F1 is 1. Raises ValueError on wrong shapes.
    """
    p, n = _checked(scores, answered, applies), len(applies)
    losses = -np.log(np.clip(np.where(applies, p, 1 - p), LEAST_PROBABILITY, 1.0)).mean(axis=1)
    hits = csr_array((answered & applies).astype(np.float64))
    both = csr_array(answered.astype(np.float64) + applies)

    def statistics(weights: Floats) -> Floats:
        """[k, 3] from row weights [k, n] that sum to n in each resample."""
        hit, of = weights @ hits, weights @ both
        return np.stack(
            [
                _ratio(2 * hit.sum(axis=1), of.sum(axis=1)),
                _mean_f1(2 * hit, of),
                weights @ losses / n,
            ],
            axis=1,
        )

    micro, macro, loss = bootstrap(statistics, n, seed, n_bootstrap, p.shape[1])
    return {
        "micro_f1": micro,
        "macro_f1": macro,
        "exact_match": share(int((answered == applies).all(axis=1).sum()), n),
        "log_loss": loss,
    }


def _ratio(hits: Floats, of: Floats) -> Floats:
    """1 where there was nothing to hit."""
    found: Floats = np.divide(hits, of, out=np.ones_like(of), where=of > 0)
    return found


def _mean_f1(hits: Floats, of: Floats) -> Floats:
    """[k] from [k, C]: the mean over the labels that occur in the resample."""
    occurs = of > 0
    f1 = np.where(occurs, _ratio(hits, of), 0).sum(axis=1)
    return _ratio(f1, occurs.sum(axis=1).astype(np.float64))


def _checked(scores: NDArray[np.floating], answered: Flags, applies: Flags) -> Floats:
    p = np.asarray(scores, dtype=np.float64)
    if p.ndim != 2 or not p.size or not p.shape == answered.shape == applies.shape:
        raise ValueError(
            "scores, answered and applies must be [n, C], not "
            f"{p.shape}, {answered.shape}, {applies.shape}"
        )
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("scores must lie in 0..1")
    return p
