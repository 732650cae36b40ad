"""A linear head by logistic regression: multinomial for classes, one a label for labels."""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

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
from training.tasks.base import CLASS, LABELS, Kind

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
# The gradient that a step along the path starts from shrinks as 1 / strength: a tolerance that does
# not (scikit-learn's 1e-4, say) calls the previous strength's solution converged at once.
PATH_TOLERANCE = 3e-4
FINAL_TOLERANCE = 1e-7
# Of a tagger's tokens, say: ten times the precision takes twice the time, and is far below the
# noise of a gradient over so many.
MANY_VECTORS = 30_000
FINAL_TOLERANCE_OF_MANY = 1e-6
MAX_ITERATIONS = 10_000


class Logistic:
    """Settings: `strength`, the inverse of the penalty on standardised vectors."""

    NAME: ClassVar[MethodName] = "logistic"
    KINDS: ClassVar[frozenset[Kind]] = frozenset({CLASS, LABELS})
    WEIGHTED: ClassVar[bool] = True

    def candidates(self, problem: Problem) -> int:  # noqa: ARG002  # the same for all
        """One a strength."""
        return len(STRENGTHS)

    def paths(
        self, problem: Problem, folds: Sequence[Fold], tick: Tick
    ) -> Iterator[Iterator[Candidate]]:
        """One."""
        yield self.path(problem, folds, tick)

    def path(self, problem: Problem, folds: Sequence[Fold], tick: Tick) -> Iterator[Candidate]:
        """From weak to strong, each fit starting from the previous strength's."""
        x = Standard.of(problem.x).x
        models = [_Model(problem, warm_start=True) for _ in folds]

        def fit_fold(model: "_Model", fold: Fold, strength: float) -> Floats:
            weight, bias = model.fit(
                x[fold.train], problem.take(fold.train), strength, PATH_TOLERANCE / strength
            )
            logits: Floats = x[fold.held] @ weight.T + bias
            return logits

        with ThreadPoolExecutor(min(len(folds), cores())) as pool:
            for strength in STRENGTHS:
                fits = [
                    pool.submit(fit_fold, model, fold, strength)
                    for model, fold in zip(models, folds, strict=True)
                ]
                raw = held_out(problem, folds, (fit.result() for fit in fits), tick)
                yield Candidate({"strength": strength}, raw)

    def fit(self, problem: Problem, settings: Settings) -> FittedHead:
        """From zero: no trace of the path."""
        standard = Standard.of(problem.x)
        model = _Model(problem, warm_start=False)
        is_many = len(problem.x) > MANY_VECTORS
        tolerance = FINAL_TOLERANCE_OF_MANY if is_many else FINAL_TOLERANCE
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            weight, bias = model.fit(standard.x, problem, float(settings["strength"]), tolerance)
        converged = not any(issubclass(each.category, ConvergenceWarning) for each in caught)
        weights, biases = standard.unscaled(weight, bias)
        return FittedHead(
            "linear", {"head.weight": weights, "head.bias": biases}, converged=converged
        )


class _Model:
    """scikit-learn's model of all classes, or one of each label."""

    def __init__(self, problem: Problem, warm_start: bool) -> None:
        self._kind = problem.kind
        self._n_outputs = problem.n_outputs
        n_models = 1 if problem.kind == CLASS else problem.n_outputs
        self._models = [
            LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=warm_start)
            for _ in range(n_models)
        ]

    def fit(
        self, x: Floats, problem: Problem, strength: float, tolerance: float
    ) -> tuple[Floats, Floats]:
        """Weight [C, d] and bias [C]."""
        for model in self._models:
            model.set_params(C=strength, tol=tolerance)
        return (self._fit_classes if self._kind == CLASS else self._fit_labels)(x, problem)

    def _fit_classes(self, x: Floats, problem: Problem) -> tuple[Floats, Floats]:
        """Two classes, which scikit-learn fits as one row, become two.

        sigmoid(z) = softmax(-z/2, z/2): the probabilities are the same. A tag that no token has, in
        a fold or at all, is never an answer: outputs of the others sum to 0, so one is above it.
        """
        (model,) = self._models
        seen = np.unique(problem.y)
        weight = np.zeros((self._n_outputs, x.shape[1]))
        bias = np.full(self._n_outputs, np.log(0.5 / (len(problem.y) + 0.5)))
        if len(seen) == 1:
            bias[seen] = 0.0
            return weight, bias
        model.fit(x, problem.y, sample_weight=problem.weights)
        if len(seen) == 2:
            model_weight = np.concatenate([-model.coef_, model.coef_]) / 2
            model_bias = np.concatenate([-model.intercept_, model.intercept_]) / 2
        else:
            model_weight, model_bias = model.coef_, model.intercept_
        weight[seen], bias[seen] = model_weight, model_bias
        return weight, bias

    def _fit_labels(self, x: Floats, problem: Problem) -> tuple[Floats, Floats]:
        weight = np.zeros((self._n_outputs, x.shape[1]))
        bias = np.zeros(self._n_outputs)
        for label, model in enumerate(self._models):
            applies = problem.y[:, label] > 0
            positive = int(applies.sum())
            if 0 < positive < len(applies):
                model.fit(x, applies, sample_weight=problem.weights)
                weight[label], bias[label] = model.coef_[0], model.intercept_[0]
            else:  # a fold without one side: its share, short of certainty
                bias[label] = np.log((positive + 0.5) / (len(applies) - positive + 0.5))
        return weight, bias
