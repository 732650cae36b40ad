"""A linear head by ridge regression, in closed form: on values, or on +1 and -1 a label."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import scipy.linalg

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

STRENGTHS = tuple(10.0 ** (half / 2) for half in range(-4, 9))  # 0.01 to 10,000
# Of many labels' +1 and -1 a fit gives back a tenth: so large, temperatures of either side of 1 are
# left for few labels and for many.
TARGET = 10.0


class Ridge:
    """Settings: `strength`, the inverse of the penalty on standardised vectors.

    Targets need no standard: the weights of a penalty are linear in them, column by column.
    """

    NAME: ClassVar[MethodName] = "ridge"
    KINDS: ClassVar[frozenset[Kind]] = frozenset({CLASS, LABELS, VALUES})
    WEIGHTED: ClassVar[bool] = True

    def candidates(self, problem: Problem) -> int:  # noqa: ARG002  # the same for all
        """One a strength."""
        return len(STRENGTHS)

    def paths(
        self, problem: Problem, folds: Sequence[Fold], tick: Tick
    ) -> Iterator[Iterator[Candidate]]:
        """One, from weak to strong."""
        yield self._path(problem, folds, tick)

    def _path(self, problem: Problem, folds: Sequence[Fold], tick: Tick) -> Iterator[Candidate]:
        x, targets = Standard.of(problem.x).x, _targets(problem)
        spectra = [
            Spectrum.of(x[fold.train], targets[fold.train], problem.weights[fold.train])
            for fold in folds
        ]
        for strength in STRENGTHS:
            raws = (
                spectrum.predict(x[fold.held], strength)
                for spectrum, fold in zip(spectra, folds, strict=True)
            )
            yield Candidate({"strength": strength}, held_out(problem, folds, raws, tick))

    def fit(self, problem: Problem, settings: Settings) -> FittedHead:
        """On all vectors."""
        standard = Standard.of(problem.x)
        spectrum = Spectrum.of(standard.x, _targets(problem), problem.weights)
        weights, biases = standard.unscaled(*spectrum.solve(float(settings["strength"])))
        return FittedHead("linear", {"head.weight": weights, "head.bias": biases})


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """What all strengths' solutions share: r axes [r, d], their squared singular values [r].

    `products` [r, C] are the axes' with the vectors' with the targets; the means [d] and [C] make
    a bias that bears no penalty.
    """

    axes: Floats
    squares: Floats
    products: Floats
    x_mean: Floats
    y_mean: Floats

    @classmethod
    def of(cls, x: Floats, y: Floats, weights: Floats) -> Self:
        """Of vectors x [m, d] with targets y [m, C] and weights [m]."""
        x_mean, y_mean = (np.average(each, axis=0, weights=weights) for each in (x, y))
        roots = np.sqrt(weights)[:, None]
        x, y = roots * (x - x_mean), roots * (y - y_mean)
        # The triangle of QR has the singular values and axes of x, and is small where rows are many
        # or few; eigenvalues of x'x would square rounding errors too.
        triangle = np.linalg.qr(x, mode="r")
        _, singular, axes = scipy.linalg.svd(triangle, full_matrices=False)
        return cls(axes, singular**2, axes @ (x.T @ y), x_mean, y_mean)

    def solve(self, strength: float) -> tuple[Floats, Floats]:
        """Weight [C, d] and bias [C] with the least weighted squared error + |W|² / strength."""
        weight = (self.products / (self.squares + 1 / strength)[:, None]).T @ self.axes
        return weight, self.y_mean - weight @ self.x_mean

    def predict(self, x: Floats, strength: float) -> Floats:
        """Raw outputs [m, C]."""
        weight, bias = self.solve(strength)
        raw: Floats = x @ weight.T + bias
        return raw


def _targets(problem: Problem) -> Floats:
    """[m, C]; of classes and labels, raw outputs need only be proportional to log odds."""
    if problem.kind == VALUES:
        return problem.y.astype(np.float64)
    applies = np.eye(problem.n_outputs)[problem.y] if problem.kind == CLASS else problem.y
    targets: Floats = TARGET * (2 * applies - 1)
    return targets
