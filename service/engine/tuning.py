"""How many runs go at once, with how many threads each: as set, or measured at start."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from backbone import Backbone, BackboneError, TextRow
from backbone.samples import SAMPLE_TEXTS

_ROWS = 8
_TEXT = "Where is the parcel that I ordered last week, and when will it arrive?"
_CLEARLY = 1.1  # a gain that is no noise; without it the first choice stays


@dataclass(frozen=True, slots=True)
class Plan:
    """`runs` at once of `threads` each, which together did `tokens_per_s` when tried."""

    runs: int
    threads: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """A backbone opened with the threads of its plan."""

    backbone: Backbone
    plan: Plan

    def facts(self) -> dict[str, object]:
        """Return what was chosen and measured, for the log."""
        return {
            "backbone": self.backbone.name,
            "precision": self.backbone.manifest.precision,
            "int8_kernels": self.backbone.kernels,
            "runs": self.plan.runs,
            "threads": self.plan.threads,
            "tokens_per_s": round(self.plan.tokens_per_s),
        }


def tune(
    load: Callable[[int], Backbone],
    cores: int,
    runs: int | None = None,
    threads: int | None = None,
    seconds: float = 0.25,
) -> Tuned:
    """Open a backbone with `load(threads)`, and choose what is not set.

    The first choice is one thread a run and as many runs as cores; threads that share a run take
    its place only where they are clearly faster (large models, many cores) and give the same bits
    as one: what training measured with one thread is what is served.

    Raises:
        BackboneError: the threads that are set change features.
    """
    choices = _choices(cores, runs, threads)
    if len(choices) == 1:
        seconds /= 5  # nothing to choose: only the speed, to reckon with until there is a better
    best = _try(load, *choices[0], seconds)
    if best.plan.threads > 1 and not _is_same(best.backbone, load(1)):
        raise BackboneError(
            f"with {best.plan.threads} threads a run, backbone {best.backbone.name} gives other "
            "features than with one, which is what training measures; set HEADSTOCK_THREADS=1"
        )
    for choice in choices[1:]:
        tried = _try(load, *choice, seconds)
        is_faster = tried.plan.tokens_per_s > _CLEARLY * best.plan.tokens_per_s
        if is_faster and _is_same(tried.backbone, best.backbone):
            best = tried
    return best


def _choices(cores: int, runs: int | None, threads: int | None) -> list[tuple[int, int]]:
    """Pairs of runs and threads, the first choice first."""
    if threads is not None:
        return [(runs or max(1, cores // threads), threads)]
    if runs is not None:
        return [(runs, max(1, cores // runs))]
    shares = [each for each in (1, 2, 4, 8, 16, 32, 64) if each < cores] + [cores]
    return [(cores // each, each) for each in dict.fromkeys(shares)]


def _try(load: Callable[[int], Backbone], runs: int, threads: int, seconds: float) -> Tuned:
    backbone = load(threads)
    rows = _rows(backbone)
    wanted = list(backbone.manifest.features)
    backbone.run(rows, wanted)  # the first run allocates
    deadline = time.perf_counter() + seconds

    def work(_: int) -> int:
        batches = 0
        while not batches or time.perf_counter() < deadline:
            backbone.run(rows, wanted)
            batches += 1
        return batches

    started = time.perf_counter()
    with ThreadPoolExecutor(runs) as pool:
        batches = sum(pool.map(work, range(runs)))
    tokens = batches * sum(row.length for row in rows)
    return Tuned(backbone, Plan(runs, threads, tokens / (time.perf_counter() - started)))


def _rows(backbone: Backbone) -> Sequence[TextRow]:
    return [backbone.preprocess(_TEXT)] * _ROWS


def _is_same(one: Backbone, other: Backbone) -> bool:
    """Whether both give the same features, for texts of many lengths alone and together."""
    rows = [one.preprocess(text) for text in SAMPLE_TEXTS]
    for batch in (rows, *([row] for row in rows)):
        ours, theirs = (each.run(batch, list(each.manifest.features)) for each in (one, other))
        if not all(np.array_equal(ours[name], theirs[name]) for name in ours):
            return False
    return True
