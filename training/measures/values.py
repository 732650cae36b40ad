"""How good values are."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import Estimate
from training.measures.intervals import bootstrap

# Of centred and scaled truth: less is the rounding of a resample that drew one value alone.
LEAST_VARIANCE = 1e-12

Floats = NDArray[np.float64]


def measure(
    values: NDArray[np.floating],
    truth: Floats,
    names: Sequence[str],
    *,
    seed: int,
    n_bootstrap: int = 1000,
) -> dict[str, Estimate]:
    """Compare values with the truth, both [n, C] with a name for each of C targets.

    R², the mean over the targets; then each target's mean absolute error and root mean squared
    error in its unit, as "mae of NAME" where there are several. R² of equal truths is 1 where they
    are hit and 0 otherwise, as in scikit-learn. Raises ValueError on wrong shapes.
    """
    errors = _checked(values, truth, names) - truth
    n = len(truth)
    varies = np.ptp(truth, axis=0) > 0  # the mean of equal numbers need not be that number
    scale = np.where(varies, truth.std(axis=0), 1.0)
    centred = np.where(varies, truth - truth.mean(axis=0), 0.0) / scale

    def statistics(weights: Floats) -> Floats:
        """[k, 1 + 2 C] from row weights [k, n] that sum to n in each resample."""
        squared = weights @ (errors / scale) ** 2 / n
        variance = weights @ centred**2 / n - (weights @ centred / n) ** 2
        mae, rmse = weights @ np.abs(errors) / n, np.sqrt(squared) * scale
        return np.concatenate([_r2(squared, variance).mean(axis=1)[:, None], mae, rmse], axis=1)

    suffixes = [""] if len(names) == 1 else [f" of {name}" for name in names]
    keys = ["r2", *(f"{figure}{suffix}" for figure in ("mae", "rmse") for suffix in suffixes)]
    found = bootstrap(statistics, n, seed, n_bootstrap, 2 * len(names) + 1)
    return dict(zip(keys, found, strict=True))


def _r2(squared: Floats, variance: Floats) -> Floats:
    varies = variance > LEAST_VARIANCE
    share = np.divide(squared, variance, out=np.ones_like(squared), where=varies)
    found: Floats = np.where(varies | (squared > 0), 1 - share, 1.0)
    return found


def _checked(values: NDArray[np.floating], truth: Floats, names: Sequence[str]) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or not found.size or found.shape != truth.shape:
        raise ValueError(f"values and truth must be [n, C], not {found.shape}, {truth.shape}")
    if found.shape[1] != len(names):
        raise ValueError(f"{len(names)} names for {found.shape[1]} targets")
    if not np.isfinite(found).all() or not np.isfinite(truth).all():
        raise ValueError("values and truth must be finite")
    return found
