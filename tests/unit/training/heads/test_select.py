from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from tests.unit.training.heads.problems import blobs, problem_of
from training.heads import MethodName, Problem, fit_head
from training.heads.base import Candidate, FittedHead, Fold, Settings, Tick, alone
from training.tasks import Classification
from training.tasks.base import CLASS, Kind


class Scripted:
    """Candidates whose raw outputs point to the right class with so much certainty."""

    NAME: ClassVar[MethodName] = "logistic"
    KINDS: ClassVar[frozenset[Kind]] = frozenset({CLASS})
    WEIGHTED: ClassVar[bool] = True

    def __init__(self, shares: Sequence[Sequence[float]], apart: bool = False) -> None:
        self.shares, self.apart, self.walked = shares, apart, list[float]()

    def candidates(self, problem: Problem) -> int:  # noqa: ARG002  # scripted
        return sum(len(path) for path in self.shares)

    def paths(
        self,
        problem: Problem,
        folds: Sequence[Fold],  # noqa: ARG002  # scripted
        tick: Tick,  # noqa: ARG002  # scripted
    ) -> Iterator[Iterator[Candidate]]:
        for path in self.shares:
            yield from (
                alone(self._path(problem, path)) if self.apart else [self._path(problem, path)]
            )

    def _path(self, problem: Problem, path: Sequence[float]) -> Iterator[Candidate]:
        right = np.eye(problem.n_outputs)[problem.y]
        wrong = np.eye(problem.n_outputs)[(problem.y + 1) % problem.n_outputs]
        for share in path:
            self.walked.append(share)
            is_right = (np.arange(len(right)) < share * len(right))[:, None]
            yield Candidate({"share": share}, np.where(is_right, right, wrong))

    def fit(self, *_: Problem | Settings) -> FittedHead:
        return FittedHead("linear", {})


def walked(method: Scripted) -> tuple[list[float], float]:
    x, y = blobs(2, 100)
    problem, folds = problem_of(x, y, 2, 0)
    fit = fit_head(method, Classification(), problem, folds)
    return method.walked, float(fit.settings["share"])


def test_a_clear_rise_ends_its_path_and_no_other() -> None:
    shares = [[0.6, 0.8, 0.5, 0.99], [0.55, 0.9], [0.7]]
    assert walked(Scripted(shares)) == ([0.6, 0.8, 0.5, 0.55, 0.9, 0.7], 0.9)


def test_candidates_apart_are_all_tried() -> None:
    shares = [[0.6, 0.8, 0.5, 0.99], [0.55, 0.9]]
    assert walked(Scripted(shares, apart=True)) == ([0.6, 0.8, 0.5, 0.99, 0.55, 0.9], 0.99)


def test_the_first_of_equals_wins() -> None:
    assert walked(Scripted([[0.8], [0.8]]))[1] == 0.8
