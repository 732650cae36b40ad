"""A nearest-centroid head: the mean of each class (Snell et al. 2017)."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, cast

import numpy as np

from adapters.manifest import CentroidSettings, Metric
from training.heads.base import (
    Candidate,
    FittedHead,
    Floats,
    Fold,
    MethodName,
    Problem,
    Settings,
    Tick,
    alone,
    held_out,
)
from training.heads.space import METRICS, Space
from training.tasks.base import CLASS, Kind

PRIORS = (0.0, 1.0, 3.0)
# Of similarities in units of the spread; temperatures of 0.05 to 20 make 0.25 to 100 of it. Two
# classes far apart want 1, a hundred near ones want 20.
FACTOR = 5.0


class Centroid:
    """Settings: `metric`, and `prior`, how many rows' worth the mean of all is in each centroid.

    A prior draws centroids of few rows towards the mean of all, as rows of a class of its own
    would.
    """

    NAME: ClassVar[MethodName] = "centroid"
    KINDS: ClassVar[frozenset[Kind]] = frozenset({CLASS})
    WEIGHTED: ClassVar[bool] = True

    def candidates(self, problem: Problem) -> int:  # noqa: ARG002  # the same for all
        """One a metric and prior."""
        return len(METRICS) * len(PRIORS)

    def paths(
        self, problem: Problem, folds: Sequence[Fold], tick: Tick
    ) -> Iterator[Iterator[Candidate]]:
        """Each candidate alone: all cost next to nothing."""
        return alone(self._candidates(problem, folds, tick))

    def _candidates(
        self, problem: Problem, folds: Sequence[Fold], tick: Tick
    ) -> Iterator[Candidate]:
        for metric in METRICS:
            space = Space.of(problem.x, metric)
            scale = space.scale(FACTOR) * space.spread
            for prior in PRIORS:
                raws = (
                    scale
                    * space.similarities(
                        space.x[fold.held],
                        centroids(space.x[fold.train], problem.take(fold.train), prior),
                    )
                    for fold in folds
                )
                raw = held_out(problem, folds, raws, tick)
                yield Candidate({"metric": metric, "prior": prior}, raw)

    def fit(self, problem: Problem, settings: Settings) -> FittedHead:
        """On all vectors."""
        metric = cast(Metric, settings["metric"])
        space = Space.of(problem.x, metric)
        found = centroids(space.x, problem, float(settings["prior"]))
        return FittedHead(
            "centroid",
            {"head.centroids": space.restored(found)},
            centroid=CentroidSettings(metric=metric, scale=space.scale(FACTOR)),
        )


def centroids(x: Floats, problem: Problem, prior: float) -> Floats:
    """Weighted means [C, d] of vectors x [m, d], `prior` rows of the mean of all in each.

    A class without rows, as a fold may have, has the mean of all.
    """
    members = np.zeros((problem.n_outputs, len(x)))
    members[problem.y, np.arange(len(x))] = problem.weights
    overall = np.average(x, axis=0, weights=problem.weights)
    totals = members.sum(axis=1, keepdims=True)
    prior_weights = np.where(totals > 0, prior, 1.0)
    found: Floats = (members @ x + prior_weights * overall) / (totals + prior_weights)
    return found
