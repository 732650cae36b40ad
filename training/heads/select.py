"""The settings of a head by cross-validation, its temperature on out-of-fold scores, its fit.

The settings with the least out-of-fold loss win, not the simplest within one standard error of it:
that rule buys sparsity or speed at the price of loss, and here every candidate gives a head of the
same kind.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from training.heads.base import Candidate, FittedHead, Floats, Fold, Method, Problem, Settings
from training.tasks.base import Task

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A head with what was found on the way; `losses` [judged] are out of fold."""

    head: FittedHead
    settings: Settings
    temperature: float
    thresholds: tuple[float, ...] | None
    losses: Floats
    folds: int

    @property
    def loss(self) -> float:
        """The mean out-of-fold loss."""
        return float(self.losses.mean())


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    candidate: Candidate
    temperature: float
    losses: Floats  # of the vectors that were held out

    @property
    def loss(self) -> float:
        return float(self.losses.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The settings that cross-validation chose for a problem.

    `raw` [held, C] are out of fold, as `losses` [held]; `y` is what they should be.
    """

    problem: Problem
    settings: Settings
    temperature: float
    raw: Floats
    y: NDArray[Any]
    losses: Floats
    folds: int

    @property
    def loss(self) -> float:
        """The mean out-of-fold loss."""
        return float(self.losses.mean())


def fit_head(
    method: Method,
    task: Task[Any],
    problem: Problem,
    folds: Sequence[Fold],
    progress: Progress | None = None,
) -> Fit:
    """Choose, calibrate and fit; the same call gives the same bits. Raises InvalidData."""
    return fit_chosen(method, task, choose_head(method, task, problem, folds, progress))


def choose_head(
    method: Method,
    task: Task[Any],
    problem: Problem,
    folds: Sequence[Fold],
    progress: Progress | None = None,
) -> Chosen:
    """The settings with the least out-of-fold loss, and their temperature. Raises InvalidData."""
    total = method.candidates(problem) * len(folds) + 1
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    held = np.sort(np.concatenate([fold.held for fold in folds]))
    with quiet_solvers():
        paths = method.paths(problem, folds, tick)
        best = min(
            (_best(path, task, problem, held) for path in paths), key=lambda found: found.loss
        )
    if progress is not None:
        progress(total, total)
    return Chosen(
        problem=problem,
        settings=best.candidate.settings,
        temperature=best.temperature,
        raw=best.candidate.raw[held],
        y=problem.y[held],
        losses=best.losses,
        folds=len(folds),
    )


def fit_chosen(method: Method, task: Task[Any], chosen: Chosen) -> Fit:
    """The head of the chosen settings, fitted to all vectors."""
    with quiet_solvers():
        head = method.fit(chosen.problem, chosen.settings)
    return Fit(
        head=head,
        settings=chosen.settings,
        temperature=chosen.temperature,
        thresholds=task.thresholds(chosen.raw, chosen.y, chosen.temperature),
        losses=chosen.losses,
        folds=chosen.folds,
    )


def _best(
    path: Iterator[Candidate], task: Task[Any], problem: Problem, held: np.ndarray[Any, Any]
) -> _Judged:
    """Walk a path until a candidate is clearly worse than the best before it."""
    y, weights = problem.y[held], problem.weights[held]
    best: _Judged | None = None
    for candidate in path:
        raw = candidate.raw[held]
        temperature = task.calibrate(raw, y)
        found = _Judged(candidate, temperature, weights * task.losses(raw, y, temperature))
        if best is None or found.loss < best.loss:
            best = found
        elif _is_clearly_worse(found.losses, best.losses):
            break
    assert best is not None, "every path has a candidate"
    return best


def _is_clearly_worse(losses: Floats, least: Floats) -> bool:
    """Whether losses are over two standard errors of the pairs above the least.

    Loss has one valley along a path; a rise within the noise says nothing, so few rows have the
    whole grid tried and many rows are spared the slowest fits.
    """
    difference = losses - least
    return bool(difference.mean() > 2 * difference.std() / np.sqrt(len(difference)))


@contextmanager
def quiet_solvers() -> Iterator[None]:
    """One BLAS thread a fit (folds run side by side, and the bits must not follow the cores).

    Of scikit-learn's warnings, two are answered here: a fold's fit that stopped short is judged by
    its out-of-fold loss like any other, and many classes of few rows are what users have.
    """
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes")
        yield
