"""A perceptron with one hidden layer, stopped early: the epochs are chosen out of fold."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar, Self

import numpy as np

from backbone.cores import cores
from training.heads.base import (
    Candidate,
    FittedHead,
    Floats,
    Fold,
    MethodName,
    Problem,
    Settings,
    Standard,
    Tick,
    held_out,
)
from training.tasks.base import CLASS, LABELS, VALUES, Kind

WIDTHS = (64, 256)
DROPOUTS = (0.2, 0.5)
EPOCHS = (2, 5, 10, 20, 40, 80, 160, 320)
MAX_STEPS = 1200  # of a fit: many rows take few epochs
MIN_BATCH, MAX_BATCH = 32, 256
BATCHES = 40  # of an epoch, where that keeps to the two


class Mlp:
    """Settings: `hidden` units, `dropout` and `epochs`."""

    NAME: ClassVar[MethodName] = "mlp"
    KINDS: ClassVar[frozenset[Kind]] = frozenset({CLASS, LABELS, VALUES})
    WEIGHTED: ClassVar[bool] = True

    def candidates(self, problem: Problem) -> int:
        """One a width, dropout and checkpoint."""
        return len(WIDTHS) * len(DROPOUTS) * len(checkpoints(len(problem.x)))

    def paths(
        self, problem: Problem, folds: Sequence[Fold], tick: Tick
    ) -> Iterator[Iterator[Candidate]]:
        """One a width and dropout, along the epochs."""
        for hidden, dropout in product(WIDTHS, DROPOUTS):
            yield self._path(problem, folds, tick, hidden, dropout)

    def _path(
        self, problem: Problem, folds: Sequence[Fold], tick: Tick, hidden: int, dropout: float
    ) -> Iterator[Candidate]:
        from training.heads.perceptron import Perceptron, one_thread

        x, _ = _inputs(problem)
        taught = [problem.take(fold.train) for fold in folds]
        units = [_Units.of(each) for each in taught]
        nets = [
            Perceptron(x[fold.train], unit.inner(each), hidden, dropout, (problem.seed, number))
            for number, (fold, each, unit) in enumerate(zip(folds, taught, units, strict=True))
        ]

        def learn(net: Perceptron, unit: _Units, fold: Fold, epochs: int) -> Floats:
            net.learn(epochs, batch_rows(len(fold.train)))
            return unit.outer(net.raw(x[fold.held]))

        before = 0
        with one_thread(), ThreadPoolExecutor(min(len(folds), cores())) as pool:
            for epochs in checkpoints(len(problem.x)):
                more = [epochs - before] * len(folds)
                raw = held_out(problem, folds, pool.map(learn, nets, units, folds, more), tick)
                yield Candidate({"hidden": hidden, "dropout": dropout, "epochs": epochs}, raw)
                before = epochs

    def fit(self, problem: Problem, settings: Settings) -> FittedHead:
        """On all vectors, for the epochs that were chosen."""
        from training.heads.perceptron import Perceptron, one_thread

        (x, standard), unit = _inputs(problem), _Units.of(problem)
        with one_thread():
            net = Perceptron(
                x,
                unit.inner(problem),
                int(settings["hidden"]),
                float(settings["dropout"]),
                (problem.seed, 0),
            )
            net.learn(int(settings["epochs"]), batch_rows(len(problem.x)))
        hidden_weight, hidden_bias, weight, bias = net.layers()
        stretched = hidden_weight * np.sqrt(x.shape[1])
        hidden_weights, hidden_biases = standard.unscaled(stretched, hidden_bias)
        return FittedHead(
            "mlp",
            {
                "head.hidden.weight": hidden_weights,
                "head.hidden.bias": hidden_biases,
                "head.weight": (unit.spread[:, None] * weight).astype(np.float32),
                "head.bias": unit.outer(bias).astype(np.float32),
            },
        )


def _inputs(problem: Problem) -> tuple[Floats, Standard]:
    """Vectors [m, d] whose features have the variance 1 on average, and what they come from."""
    standard = Standard.of(problem.x)
    return standard.x * np.sqrt(problem.x.shape[1]), standard


@dataclass(frozen=True, slots=True, eq=False)
class _Units:
    """Mean and spread [C] of values; 0 and 1 for targets of other kinds."""

    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, problem: Problem) -> Self:
        if problem.kind != VALUES:
            return cls(np.zeros(problem.n_outputs), np.ones(problem.n_outputs))
        mean = np.average(problem.y, axis=0, weights=problem.weights)
        squares = (problem.y - mean) ** 2
        spread = np.sqrt(np.average(squares, axis=0, weights=problem.weights))
        return cls(mean, np.where(spread > 0, spread, 1.0))

    def inner(self, problem: Problem) -> Problem:
        """With values of mean 0 and variance 1."""
        if problem.kind != VALUES:
            return problem
        return replace(problem, y=(problem.y - self.mean) / self.spread)

    def outer(self, raw: Floats) -> Floats:
        """Raw outputs [..., C] in the units of the values."""
        return raw * self.spread + self.mean


def checkpoints(rows: int) -> tuple[int, ...]:
    """Epochs at which nets are judged: the first, and others within MAX_STEPS."""
    steps = -(-rows // batch_rows(rows))
    return tuple(e for e in EPOCHS if e == EPOCHS[0] or e * steps <= MAX_STEPS)


def batch_rows(rows: int) -> int:
    """Rows of a mini-batch: more where there are many, since steps cost more than rows."""
    return min(max(MIN_BATCH, rows // BATCHES), MAX_BATCH)
