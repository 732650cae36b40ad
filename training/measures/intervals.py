"""95 % intervals of what was measured on a sample of rows."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import Estimate

Z_95 = 1.959964
# Weights of resamples held at once: 32 MiB.
CHUNK_CELLS = 4_000_000

Floats = NDArray[np.float64]


def share(hits: int, n: int) -> Estimate:
    """`hits` of `n` with Wilson's interval (1927), which stays honest at 0 and 1."""
    value, z2 = hits / n, Z_95**2
    centre = (value + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * np.sqrt(value * (1 - value) / n + z2 / (4 * n**2))
    # At 0 and at n hits one end is the value itself, which rounding would miss by a bit.
    low = 0.0 if hits == 0 else float(centre - half)
    high = 1.0 if hits == n else float(centre + half)
    return Estimate(value=value, low=low, high=high)


def bootstrap(
    statistics: Callable[[Floats], Floats],
    n: int,
    seed: int,
    n_bootstrap: int = 1000,
    width: int = 1,
) -> list[Estimate]:
    """Each of the `statistics` of `n` rows with its percentile interval over rows (Efron 1979).

    `statistics` gives [k, s] for row weights [k, n] that sum to n in each resample; `width` is how
    many numbers it holds for one of the k, if more than n. An interval is widened to hold its value
    where resamples are biased.
    """
    values = statistics(np.ones((1, n)))[0]
    chunks = _resamples(n, seed, n_bootstrap, width)
    resampled = np.concatenate([statistics(weights) for weights in chunks])
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    return [
        Estimate(value=float(v), low=float(min(lo, v)), high=float(max(hi, v)))
        for v, lo, hi in zip(values, low, high, strict=True)
    ]


def _resamples(n: int, seed: int, n_bootstrap: int, width: int) -> Iterator[Floats]:
    """How often each row was drawn, [k, n], in chunks that make `n_bootstrap` together."""
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // max(n, width))
    for start in range(0, n_bootstrap, chunk):
        k = min(chunk, n_bootstrap - start)
        drawn = generator.integers(0, n, size=(k, n)) + n * np.arange(k)[:, None]
        yield np.bincount(drawn.ravel(), minlength=k * n).reshape(k, n).astype(np.float64)
