"""A learned mix of a backbone's layers, taken only where it is clearly better than the last layer.

The scalar mix of ELMo (Peters et al. 2018): softmax weights over layers, here of each layer's
pooled vectors, centred and brought to one size. The weights are those with the least out-of-fold
loss of ridge regression on the mix, whose gradient is exact (Bengio 2000): the loss of the rows
that are fitted falls with every layer, and says nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from adapters.manifest import Finding
from adapters.scoring import mix_layers
from training.examples import of_rows
from training.features import Encoded
from training.findings import make_finding
from training.fitting import fit_frozen
from training.heads.base import Floats, Fold, Problem, as_finite
from training.heads.select import quiet_solvers
from training.tasks.base import CLASS
from training.workshop import Fitted, TrainingRows, Workshop

# A dozen numbers are known well enough from so many rows.
ENOUGH_ROWS = 3_000
MAX_STEPS = 60
_SHARPNESS = 20.0  # at first, of a class's probability by least squares; learned too
_LEAST_SIZE = 1e-4  # of the largest layer's: one that is the same for all rows has no part


def fit_with_mix(
    workshop: Workshop, rows: TrainingRows, encoded: Encoded, named: Encoded
) -> tuple[Fitted, tuple[Finding, ...]]:
    """Fit a head on a mix of layers or on the last one, by their loss out of fold.

    The mix is learned once, on all rows: folds of its own would fit it to fewer, and its few
    numbers can win little by knowing the rows that are held out.
    """
    pooled = fit_frozen(workshop, rows, last_layers(encoded), last_layers(named))
    progress = workshop.stage("mix")
    progress(0, 1)
    mix = _learn(workshop, rows, np.stack(encoded.features))
    progress(1, 1)
    on_mix = replace(workshop, stage=lambda what: workshop.stage(f"{what} on the mix"))
    mixed = fit_frozen(on_mix, rows, _mixed(encoded, mix), _mixed(named, mix))
    gains = pooled.fit.losses - mixed.fit.losses
    is_better = gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains))
    found = replace(mixed, mix=tuple(map(float, mix))) if is_better else pooled
    losses: dict[str, str | float] = {
        "mix": "yes" if is_better else "no",
        "out_of_fold_loss_mix": mixed.fit.loss,
        "out_of_fold_loss_pooled": pooled.fit.loss,
    }
    findings = () if is_better else (_left_out(pooled.fit.loss, mixed.fit.loss),)
    return replace(found, settings={**found.settings, **losses}), findings


def last_layers(encoded: Encoded) -> Encoded:
    """The last layer of each text, which has the bits of its pooled vector."""
    return replace(encoded, features=[layers[-1] for layers in encoded.features])


def learn_mix(
    layers: NDArray[np.float32], problem: Problem, folds: Sequence[Fold]
) -> NDArray[np.float32]:
    """Weights [L] for layers [m, L, d], such that the mix has about the size of the last layer.

    The vectors of `problem` are not used. Raises InvalidData for a vector that is not finite.
    """
    layers, problem, folds = _some(layers, problem, folds)
    x = as_finite(layers)
    x -= x.mean(axis=0)
    sizes = np.sqrt((x**2).sum(axis=2).mean(axis=0))
    speaking = np.flatnonzero(sizes > _LEAST_SIZE * sizes.max())
    mix = np.zeros(len(sizes))
    if not len(speaking):
        mix[-1] = 1.0
        return mix.astype(np.float32)
    loss = _Loss.of(x[:, speaking] / sizes[speaking, None], problem, folds)
    start = np.zeros(len(speaking) + 2)
    start[-1] = np.log(_SHARPNESS)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MAX_STEPS})
    unit = sizes[-1] if speaking[-1] == len(sizes) - 1 else sizes.max()
    mix[speaking] = softmax(found.x[:-2]) * unit / sizes[speaking]
    return mix.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Loss:
    """The out-of-fold loss of ridge regression on a mix of layers x [m, L, d], with its gradient.

    Parameters are L weights before softmax, and the logarithms of the penalty and of the sharpness.
    `products` [L, L] are the layers' mean inner products; `y` [m] are classes, if that is the kind.
    """

    x: Floats
    products: Floats
    targets: Floats
    y: NDArray[Any] | None
    folds: Sequence[Fold]

    @classmethod
    def of(cls, x: Floats, problem: Problem, folds: Sequence[Fold]) -> "_Loss":
        is_class = problem.kind == CLASS
        targets = np.eye(problem.n_outputs)[problem.y] if is_class else _standard(problem.y)
        products = np.einsum("mld,mkd->lk", x, x, optimize=True) / len(x)
        return cls(x, products, targets, problem.y if is_class else None, folds)

    def __call__(self, parameters: Floats) -> tuple[float, Floats]:
        weights = softmax(parameters[:-2])
        penalty, sharpness = np.exp(np.clip(parameters[-2:], -12, 12))
        # Of mean squared norm 1, whatever the weights: else the penalty would favour one layer.
        size = np.sqrt(weights @ self.products @ weights)
        mixed = np.einsum("l,mld->md", weights, self.x) / size
        to_mixed = np.zeros_like(mixed)
        sums = np.zeros(3)  # loss, and its derivatives by the two logarithms
        for fold in self.folds:
            sums += self._add_fold(fold, mixed, to_mixed, penalty, sharpness)
        by_layer = np.einsum("md,mld->l", to_mixed, self.x)
        to_weights = by_layer / size - (weights @ by_layer) / size**3 * (self.products @ weights)
        gradient = np.append(weights * (to_weights - weights @ to_weights), sums[1:])
        n_held = sum(len(fold.held) for fold in self.folds)
        return float(sums[0]) / n_held, gradient / n_held

    def _add_fold(
        self, fold: Fold, mixed: Floats, to_mixed: Floats, penalty: float, sharpness: float
    ) -> Floats:
        """A fold's loss and its derivatives by the logarithms; those by `mixed` are added."""
        train, held = mixed[fold.train], mixed[fold.held]
        mean = self.targets[fold.train].mean(axis=0)
        targets = self.targets[fold.train] - mean
        gram = train.T @ train
        gram[np.diag_indices_from(gram)] += penalty
        factor = scipy.linalg.cho_factor(gram)
        solution = scipy.linalg.cho_solve(factor, train.T @ targets)
        loss, errors, to_sharpness = self._judge(held @ solution + mean, fold.held, sharpness)
        # Back through the solution: the adjoint of gram · solution = train' · targets.
        adjoint = scipy.linalg.cho_solve(factor, held.T @ errors)
        to_mixed[fold.held] += errors @ solution.T
        to_mixed[fold.train] += (targets - train @ solution) @ adjoint.T
        to_mixed[fold.train] -= (train @ adjoint) @ solution.T
        return np.array([loss, -penalty * float((adjoint * solution).sum()), to_sharpness])

    def _judge(
        self, predicted: Floats, held: NDArray[np.int64], sharpness: float
    ) -> tuple[float, Floats, float]:
        """The sum of losses, its derivatives by what is predicted and by the log of sharpness."""
        if self.y is None:
            errors = predicted - self.targets[held]
            return float((errors**2).sum()) / 2, errors, 0.0
        logs = log_softmax(sharpness * predicted, axis=1)
        loss = -float(logs[np.arange(len(held)), self.y[held]].sum())
        errors = (np.exp(logs) - self.targets[held]) * sharpness
        return loss, errors, float((errors * predicted).sum())


def _learn(
    workshop: Workshop, rows: TrainingRows, layers: NDArray[np.float32]
) -> NDArray[np.float32]:
    task, recipe = workshop.task, workshop.recipe
    examples = of_rows(layers[:, -1], task.encode(rows.targets, rows.labels, None))
    problem = examples.problem(task.KIND, len(rows.labels), recipe.weights, recipe.seed)
    folds = examples.folds(task.strata(rows.targets), rows.groups, recipe.seed)
    with quiet_solvers():
        return learn_mix(layers, problem, folds)


def _mixed(encoded: Encoded, mix: NDArray[np.float32]) -> Encoded:
    return replace(encoded, features=[mix_layers(mix, layers) for layers in encoded.features])


def _some(
    layers: NDArray[np.float32], problem: Problem, folds: Sequence[Fold]
) -> tuple[NDArray[np.float32], Problem, Sequence[Fold]]:
    """At most `ENOUGH_ROWS` of the rows, with their folds."""
    n_rows = len(layers)
    if n_rows <= ENOUGH_ROWS:
        return layers, problem, folds
    chosen = np.random.default_rng(problem.seed).choice(n_rows, ENOUGH_ROWS, replace=False)
    chosen.sort()
    new = np.full(n_rows, -1)
    new[chosen] = np.arange(ENOUGH_ROWS)

    def kept(places: NDArray[np.int64]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = new[places]
        return found[found >= 0]

    fewer = [Fold(kept(fold.train), kept(fold.held)) for fold in folds]
    return layers[chosen], problem.take(chosen), fewer


def _standard(y: NDArray[Any]) -> Floats:
    """Targets [m, C], each of mean 0 and variance 1 where it varies."""
    centred: Floats = y - y.mean(axis=0)
    deviations = centred.std(axis=0)
    return centred / np.where(deviations > 0, deviations, 1)


def _left_out(pooled: float, mixed: float) -> Finding:
    return make_finding(
        "mix-left-out",
        f"a mix of the layers did not clearly lower the loss out of fold ({mixed:.4f}, and "
        f"{pooled:.4f} without): the adapter is a head on the last layer",
        loss_with=mixed,
        loss_without=pooled,
    )
