"""Log losses, and temperatures: how far raw outputs must be divided to say what they are worth."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

# Where nearly all out-of-fold rows are right, the loss falls without end as T goes to 0, and where
# nearly all are wrong as it grows: outside these bounds T says that there were too few rows.
TEMPERATURES = (0.05, 20.0)
Floats = NDArray[np.float64]


def class_losses(logits: Floats, labels: NDArray[np.int64], temperature: float) -> Floats:
    """Log losses [m] in nats of logits [m, C]."""
    losses: Floats = -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels]
    return losses


def fit_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The T in TEMPERATURES with the least log loss of logits / T (Guo et al. 2017).

    Each row's target leaves 1 / (n + 2) to the other classes, as in Platt (1999): n rows that are
    all right do not prove that the next one is.
    """
    smoothing = 1 / (len(labels) + 2)

    def loss(temperature: float) -> float:
        log_p = log_softmax(logits / temperature, axis=1)
        right = log_p[np.arange(len(labels)), labels]
        others = (log_p.sum(axis=1) - right) / (log_p.shape[1] - 1)
        return float(-((1 - smoothing) * right + smoothing * others).mean())

    return least_temperature(loss)


def fit_label_temperature(raw: Floats, applies: Floats) -> float:
    """The T in TEMPERATURES with the least binary log loss of raw / T [n, C], one for all labels.

    `applies` [n, C] is 0 or 1. Targets are Platt's (1999): (p + 1) / (p + 2) for the p rows of a
    label, 1 / (q + 2) for its q other rows.
    """
    positive = applies.sum(axis=0)
    negative = len(applies) - positive
    targets = np.where(applies > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(temperature: float) -> float:
        z = raw / temperature
        return float((np.logaddexp(0, z) - targets * z).mean())

    return least_temperature(loss)


def least_temperature(loss: Callable[[float], float]) -> float:
    """The T in TEMPERATURES where `loss`, which has one valley, is least."""
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda log_t: loss(float(np.exp(log_t))),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.clip(np.exp(found.x), *TEMPERATURES))
