"""What a training tells while it runs: records of steps and epochs, see `training.curves`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.curves import MAX_STEPS, Curves
from training.tasks import CLASS, LABELS, VALUES, Task
from training.tasks.base import Floats, Kind

METRICS: dict[Kind, str] = {CLASS: "accuracy", LABELS: "micro_f1", VALUES: "r2"}


@dataclass(frozen=True, slots=True)
class Seen:
    """How good raw outputs are at a temperature: the task's mean loss, and its metric."""

    loss: float
    metric: float


def judge(task: Task[Any], raw: Floats, y: NDArray[Any], temperature: float) -> Seen:
    """Of raw outputs [m, C] of vectors with encoded targets y."""
    loss = float(task.losses(raw, y, temperature).mean())
    return Seen(loss, _metric(task.KIND, raw, y))


def spread(n_rows: int, wanted: int) -> Sequence[int]:
    """At most `wanted` places of 0..n_rows-1, evenly spread."""
    places: list[int] = np.linspace(0, n_rows - 1, min(n_rows, wanted)).astype(int).tolist()
    return places


class Monitor:
    """Writes one phase of `steps` steps to its curves."""

    def __init__(self, curves: Curves, kind: Kind, steps: int) -> None:
        self._curves = curves
        self._metric = METRICS[kind]
        self._every = -(-steps // MAX_STEPS)
        self._epoch_from = time.monotonic()

    def step(self, stage: str, epoch: int, step: int, rate: float, objective: float) -> None:
        """After `step`, counted from 0 as `epoch` is."""
        if step % self._every == 0:
            self._curves.add(
                {
                    "kind": "step",
                    "stage": stage,
                    "epoch": epoch + 1,
                    "step": step,
                    "rate": rate,
                    "objective": objective,
                }
            )

    def epoch(
        self,
        stage: str,
        epoch: int,
        step: int,
        rate: float,
        objective: float,
        seen: tuple[Seen, Seen] | None,
    ) -> None:
        """After an epoch whose last step was `step`; `seen`: of training, of validation rows."""
        train, validation = seen or (None, None)
        now = time.monotonic()
        self._curves.add(
            {
                "kind": "epoch",
                "stage": stage,
                "epoch": epoch + 1,
                "step": step,
                "rate": rate,
                "objective": objective,
                "train_loss": None if train is None else train.loss,
                "validation_loss": None if validation is None else validation.loss,
                "gap": None if seen is None else seen[1].loss - seen[0].loss,
                "metric": self._metric,
                "train_metric": None if train is None else train.metric,
                "validation_metric": None if validation is None else validation.metric,
                "seconds": now - self._epoch_from,
            }
        )
        self._epoch_from = now


def _metric(kind: Kind, raw: Floats, y: NDArray[Any]) -> float:
    """Accuracy, F1 of all labels together, or the mean R² of the targets that vary."""
    if kind == CLASS:
        return float((raw.argmax(axis=1) == y).mean())
    if kind == LABELS:
        both = ((raw > 0) & (y > 0)).sum()
        either = (raw > 0).sum() + (y > 0).sum()
        return float(2 * both / either) if either else 1.0
    spreads = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    errors = ((raw - y) ** 2).sum(axis=0)
    varies = spreads > 0
    return float((1 - errors[varies] / spreads[varies]).mean()) if varies.any() else 0.0
