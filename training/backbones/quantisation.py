"""What int8 costs and brings, measured on the machine that adds the backbone."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from backbone.errors import BackboneError
from backbone.runtime import Backbone
from backbone.samples import SAMPLE_TEXTS

# Far below what sound quantisation gives (0.99); far above what a broken kernel or graph does.
LOWEST_COSINE = 0.9
_ROUNDS = 9
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Int8Report:
    """Int8 beside fp32: cosine of the pooled vectors of sample texts, and times the speed."""

    cosine_minimum: float
    cosine_mean: float
    speed: float


def measure_int8(fp32: Backbone, int8: Backbone) -> Int8Report:
    """Compare the two on the sample texts.

    Raises:
        BackboneError: the lowest cosine is below LOWEST_COSINE.
    """
    rows = [fp32.preprocess(text) for text in SAMPLE_TEXTS]
    one = fp32.run(rows, ["pooled"])["pooled"].astype(np.float64)
    other = int8.run(rows, ["pooled"])["pooled"].astype(np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.einsum("nd,nd->n", one, other) / np.maximum(norms, 1e-30)
    cosines[~one.any(axis=1) & ~other.any(axis=1)] = 1  # a prompt alone may leave nothing to pool
    lowest = float(cosines.min())
    if not lowest >= LOWEST_COSINE:
        raise BackboneError(
            f"int8 turns this model's features away from fp32: cosine {lowest:.3f} on "
            f"{SAMPLE_TEXTS[int(cosines.argmin())][:40]!r}, less than {LOWEST_COSINE}; add it "
            "with --precision fp32"
        )
    short = sorted(rows, key=lambda row: row.length)[:_BATCH]
    times = _medians([partial(each.run, short, ["pooled"]) for each in (fp32, int8)])
    return Int8Report(lowest, float(cosines.mean()), times[0] / times[1])


def _medians(runs: list[Callable[[], object]]) -> list[float]:
    """Median seconds of each run, taken in turn, so that a busy machine slows all alike."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(1 + _ROUNDS):
        for run, taken in zip(runs, seconds, strict=True):
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    return [float(np.median(taken[1:])) for taken in seconds]  # the first run warms up
