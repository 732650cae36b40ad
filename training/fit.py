"""A linear head from features: multinomial logistic regression, its strength and its temperature.

Both are chosen on the training rows alone, by cross-validation. The strength with the least
out-of-fold log loss wins, not the simplest within one standard error of it: that rule buys
sparsity or speed at the price of loss, and here every strength gives a head of the same size.

Features are centred and divided by one scalar, so that a strength means the same on every
backbone; both go into the weights afterwards. Centring changes no solution, since the bias bears no
penalty. It makes the solver converge sooner, and lets the scalar measure what differs between rows:
many backbones share most of each vector among all rows.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from training.errors import InvalidData

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
MAX_FOLDS = 5
# Where nearly all out-of-fold rows are right, the loss falls without end as T goes to 0, and where
# nearly all are wrong as it grows: outside these bounds T says that there were too few rows.
TEMPERATURES = (0.05, 20.0)
# The gradient that a step along the path starts from shrinks as 1 / strength: a tolerance that does
# not (scikit-learn's 1e-4, say) calls the previous strength's solution converged at once.
PATH_TOLERANCE = 3e-4
FINAL_TOLERANCE = 1e-7
MAX_ITERATIONS = 10_000

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """One strength's temperature, and its out-of-fold log loss in nats at that temperature."""

    strength: float
    temperature: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class LinearFit:
    """A head: probabilities are softmax((features @ weight.T + bias) / temperature).

    `weight` float32 [C, d], `bias` float32 [C]. `log_loss` is out of fold, in nats. `converged` is
    False where the solver stopped short of its tolerance.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float
    strength: float
    log_loss: float
    folds: int
    converged: bool


def fit_linear(
    features: NDArray[np.float32],
    labels: NDArray[np.integer],
    n_classes: int,
    *,
    seed: int,
    progress: Progress | None = None,
) -> LinearFit:
    """Fit features [n, d] to labels [n] in 0..n_classes-1; the same call gives the same bits.

    Raises InvalidData for a class with fewer than two rows or features that are not finite.
    """
    y: Integers = np.asarray(labels, dtype=np.int64)
    folds = min(MAX_FOLDS, _smallest_class(y, n_classes))
    scaled, mean, scale = _standardise(features)
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(scaled, y))
    with _quiet_solver():
        trials = walk_path(scaled, y, n_classes, splits, progress)
        best = min(trials, key=lambda trial: trial.log_loss)
        weight, bias, converged = _fit_all(scaled, y, best.strength)
    if progress is not None:
        progress(_total(folds), _total(folds))
    weight /= scale
    return LinearFit(
        weight=weight.astype(np.float32),
        bias=(bias - weight @ mean).astype(np.float32),
        temperature=best.temperature,
        strength=best.strength,
        log_loss=best.log_loss,
        folds=folds,
        converged=converged,
    )


def fit_temperature(logits: Floats, labels: Integers) -> float:
    """The T in TEMPERATURES with the least log loss of logits / T (Guo et al. 2017).

    Each row's target leaves 1 / (n + 2) to the other classes, as in Platt (1999): n rows that are
    all right do not prove that the next one is.
    """
    smoothing = 1 / (len(labels) + 2)

    def loss(log_temperature: float) -> float:
        log_p = log_softmax(logits / np.exp(log_temperature), axis=1)
        right = log_p[np.arange(len(labels)), labels]
        others = (log_p.sum(axis=1) - right) / (log_p.shape[1] - 1)
        return float(-((1 - smoothing) * right + smoothing * others).mean())

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(np.clip(np.exp(found.x), *TEMPERATURES))


def walk_path(
    x: Floats,
    y: Integers,
    n_classes: int,
    splits: Sequence[tuple[Integers, Integers]],
    progress: Progress | None,
) -> list[Trial]:
    """Cross-validate from weak to strong, each fit starting from the previous strength's.

    Stops at the first strength that is clearly worse than the best before it.
    """
    models = [LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True) for _ in splits]
    logits = np.empty((len(y), n_classes))  # of one strength at a time: many rows by many classes
    trials: list[Trial] = []
    least: Floats | None = None
    with ThreadPoolExecutor(min(len(splits), len(os.sched_getaffinity(0)))) as pool:
        for strength in STRENGTHS:
            fits = [
                pool.submit(_fit_fold, model, strength, x, y, train, held_out)
                for model, (train, held_out) in zip(models, splits, strict=True)
            ]
            for done, ((_, held_out), fit) in enumerate(zip(splits, fits, strict=True), start=1):
                logits[held_out] = fit.result()
                if progress is not None:
                    progress(len(trials) * len(splits) + done, _total(len(splits)))
            temperature = fit_temperature(logits, y)
            losses = -log_softmax(logits / temperature, axis=1)[np.arange(len(y)), y]
            trials.append(Trial(strength, temperature, float(losses.mean())))
            if least is None or losses.mean() < least.mean():
                least = losses
            elif _clearly_worse(losses, least):
                break
    return trials


def _fit_fold(
    model: LogisticRegression,
    strength: float,
    x: Floats,
    y: Integers,
    train: Integers,
    held_out: Integers,
) -> Floats:
    """Move the fold's model on to `strength`; the held-out rows' logits [m, C]."""
    model.set_params(C=strength, tol=PATH_TOLERANCE / strength)
    weight, bias = _softmax_rows(model.fit(x[train], y[train]))
    logits: Floats = x[held_out] @ weight.T + bias
    return logits


def _fit_all(x: Floats, y: Integers, strength: float) -> tuple[Floats, Floats, bool]:
    """Weight, bias and whether they converged, on all rows, from zero: no trace of the path."""
    model = LogisticRegression(C=strength, tol=FINAL_TOLERANCE, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        weight, bias = _softmax_rows(model.fit(x, y))
    return weight, bias, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def _clearly_worse(losses: Floats, least: Floats) -> bool:
    """Whether a strength's row losses are over two standard errors of the pairs above the least.

    Log loss has one valley along the path; a rise within the noise says nothing, so few rows
    have the whole grid tried and many rows are spared the slowest fits.
    """
    difference = losses - least
    return bool(difference.mean() > 2 * difference.std() / np.sqrt(len(difference)))


def _softmax_rows(model: LogisticRegression) -> tuple[Floats, Floats]:
    """Weight [C, d] and bias [C]; two classes, which scikit-learn fits as one row, become two.

    sigmoid(z) = softmax(-z/2, z/2): the probabilities are the same.
    """
    weight: Floats = model.coef_
    bias: Floats = model.intercept_
    if len(weight) == 1:
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight.copy(), bias.copy()


def _standardise(features: NDArray[np.float32]) -> tuple[Floats, Floats, float]:
    """Centred features of mean squared norm 1, their mean [d] and the scale divided by.

    float64, since in float32 the solver's line search fails on its own rounding.
    """
    x = features.astype(np.float64)
    if not np.isfinite(x).all():
        raise InvalidData("Features hold NaN or infinity: the backbone does not work on this data.")
    mean = x.mean(axis=0)
    x -= mean
    scale = float(np.sqrt((x**2).sum(axis=1).mean())) or 1.0
    return x / scale, mean, scale


def _smallest_class(labels: Integers, n_classes: int) -> int:
    counts = np.bincount(labels, minlength=n_classes)
    if n_classes < 2 or len(counts) > n_classes:
        raise ValueError(f"labels must lie in 0..n_classes-1 with n_classes >= 2, not {n_classes}")
    if counts.min() < 2:
        raise InvalidData(f"Class number {counts.argmin()} has fewer than two training rows.")
    return int(counts.min())


def _total(folds: int) -> int:
    """Fits in a whole run: the grid on each fold, and the last one."""
    return len(STRENGTHS) * folds + 1


@contextmanager
def _quiet_solver() -> Iterator[None]:
    """One BLAS thread a fit (folds run side by side, and the bits must not follow the cores).

    Of scikit-learn's warnings, two are answered here: a fold's fit that stopped short is judged by
    its out-of-fold loss like any other, and many classes of few rows are what users have.
    """
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes")
        yield
