"""A head of k nearest neighbours: the training vectors themselves, stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from adapters.heads.knn import nearest_places
from adapters.manifest import KnnSettings, Metric
from training.errors import TrainingError
from training.heads.base import (
    GOLDEN_ROWS,
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

COUNTS = (1, 3, 5, 10, 20, 50)
FACTORS = (0.0, 5.0, 15.0)  # of similarities in units of the spread
MAX_VECTORS = 20_000  # a server looks at each for every row that it answers
MAX_BYTES = 48 * 2**20  # of the 64 MiB of a file
_BLOCK_ROWS = 256  # similarities to all stored vectors are made for so many at once
_MAX_GOLDEN_CANDIDATES = 256


class Knn:
    """Settings: `metric`, `k`, and `scale`, how fast a neighbour's vote falls with distance."""

    NAME: ClassVar[MethodName] = "knn"
    KINDS: ClassVar[frozenset[Kind]] = frozenset({CLASS})
    WEIGHTED: ClassVar[bool] = False  # in the format votes depend on distance alone

    def candidates(self, problem: Problem) -> int:  # noqa: ARG002  # at most
        """One a metric, k and scale; where the k is 1 there is nothing to scale."""
        return len(METRICS) * len(_grid(COUNTS[-1]))

    def paths(
        self, problem: Problem, folds: Sequence[Fold], tick: Tick
    ) -> Iterator[Iterator[Candidate]]:
        """Each candidate alone: neighbours are looked for once a metric. Raises TrainingError."""
        check_size(problem.x)
        return alone(self._candidates(problem, folds, tick))

    def _candidates(
        self, problem: Problem, folds: Sequence[Fold], tick: Tick
    ) -> Iterator[Candidate]:
        most = min(len(fold.train) for fold in folds)
        for metric in METRICS:
            space = Space.of(problem.x, metric)
            found = [_Neighbours.of(space, problem, fold, min(COUNTS[-1], most)) for fold in folds]
            for k, factor in _grid(most):
                scale = space.scale(factor)
                raws = (each.raw(k, scale * space.spread, problem.n_outputs) for each in found)
                raw = held_out(problem, folds, raws, tick)
                yield Candidate({"metric": metric, "k": k, "scale": scale}, raw)

    def fit(self, problem: Problem, settings: Settings) -> FittedHead:
        """Nothing is fitted: all vectors are kept as they are."""
        check_size(problem.x)
        metric, k = cast(Metric, settings["metric"]), int(settings["k"])
        return FittedHead(
            "knn",
            {
                "head.vectors": problem.x.astype(np.float32),
                "head.vector_labels": problem.y.astype(np.float32),
            },
            knn=KnnSettings(metric=metric, k=k, scale=float(settings["scale"])),
            golden=_golden(problem.x, metric, k),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Neighbours:
    """Similarities [held, k] of the nearest, nearest first, and their labels [held, k]."""

    similarities: Floats
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, space: Space, problem: Problem, fold: Fold, k: int) -> Self:
        points = space.x[fold.train]
        similarities = np.empty((len(fold.held), k))
        places = np.empty((len(fold.held), k), dtype=np.int64)
        for start in range(0, len(fold.held), _BLOCK_ROWS):
            block = space.similarities(space.x[fold.held[start : start + _BLOCK_ROWS]], points)
            for number, row in enumerate(block, start):
                places[number] = nearest_places(row, k)
                similarities[number] = row[places[number]]
        return cls(similarities, problem.y[fold.train][places])

    def raw(self, k: int, factor: float, n_labels: int) -> Floats:
        """Logarithms of votes [held, C], as `adapters.heads.KnnHead` counts them."""
        near, labels = self.similarities[:, :k], self.labels[:, :k]
        weights = np.exp(factor * (near - near[:, :1]))
        cells = labels + n_labels * np.arange(len(labels))[:, None]
        votes = np.bincount(cells.ravel(), weights.ravel(), minlength=len(labels) * n_labels)
        raw: Floats = np.log(votes.reshape(-1, n_labels) + 1 / n_labels)
        return raw


def check_size(x: NDArray[np.float32]) -> None:
    """Raises TrainingError for more vectors than a head should store."""
    rows, size = len(x), 4 * x.size
    if rows <= MAX_VECTORS and size <= MAX_BYTES:
        return
    fitting = min(MAX_VECTORS, MAX_BYTES // (4 * x.shape[1]))
    raise TrainingError(
        f"a knn head stores every training row: {rows:,} of width {x.shape[1]:,}, and "
        f"{fitting:,} are allowed ({MAX_VECTORS:,} rows, {MAX_BYTES // 2**20} MiB); take fewer "
        "rows, or another head: centroid, logistic, ridge or mlp"
    )


def _grid(most: int) -> list[tuple[int, float]]:
    """Pairs of k, at most `most`, and factor."""
    return [
        (k, factor) for k in COUNTS if k <= most for factor in (FACTORS if k > 1 else FACTORS[:1])
    ]


def _golden(x: NDArray[np.float32], metric: Metric, k: int) -> NDArray[np.float32]:
    """Vectors whose k-th neighbour is most clearly nearer than the next.

    Rounding on another machine might swap the two otherwise.
    """
    space = Space.of(x, metric)
    spread = np.linspace(0, len(x) - 1, min(_MAX_GOLDEN_CANDIDATES, len(x))).astype(int)
    gaps = np.zeros(len(spread))
    if k < len(x):
        ranked = space.similarities(space.x[spread], space.x)
        ranked.partition((len(x) - k - 1, len(x) - k), axis=1)
        gaps = ranked[:, len(x) - k] - ranked[:, len(x) - k - 1]
    clearest = np.sort(np.argsort(-gaps, kind="stable")[:GOLDEN_ROWS])
    golden: NDArray[np.float32] = x[spread[clearest]]
    return golden
