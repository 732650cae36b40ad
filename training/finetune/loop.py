"""LoRA training from its first step to its best epoch: early stopping, checkpoints, curves."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adapters.manifest import Finding
from training.curves import Curves
from training.errors import TrainingError
from training.findings import make_finding
from training.finetune.checkpoint import Checkpoint, State
from training.finetune.learner import Learner
from training.finetune.material import Material
from training.finetune.model import Factors
from training.finetune.monitor import Monitor, Seen, judge, spread
from training.finetune.schedule import class_batches, shuffled_batches
from training.finetune.settings import LoraRecipe
from training.tasks import Task

Progress = Callable[[int, int], None]
_SAVE_EVERY_S = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """The LoRA of the best epoch; `epochs` of the fixed length were trained to reach it.

    `prototypes` [C, d] are what it learned beside, of classes. `loss` is of the validation rows,
    None without such.
    """

    factors: dict[str, Factors]
    prototypes: NDArray[np.float32] | None
    epochs: int
    loss: float | None
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Standing:
    """What changes from step to step, beside the tensors."""

    step: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    sum_loss: float = 0.0
    n_losses: int = 0


class LoraTraining:
    """One training of one learner. `run` may be called once."""

    def __init__(
        self,
        learner: Learner,
        task: Task[Any],
        material: Material,
        validation: Material | None,
        settings: LoraRecipe,
        seed: int,
    ) -> None:
        self._learner = learner
        self._task = task
        self._material = material
        self._validation = validation
        self._sample = (  # as many training rows: what the gap is measured on
            None
            if validation is None
            else material.pick(spread(len(material.rows), len(validation.rows)))
        )
        self._settings = settings
        self._seed = seed
        self._now = _Standing()
        self._best: dict[str, Tensor] = {}

    def run(
        self, curves: Curves, checkpoint: Checkpoint, progress: Progress, stop_after: int | None
    ) -> Tuned:
        """Train to the end, or of epoch `stop_after`; from the checkpoint if there is one.

        Raises:
            TrainingError: the loss is not finite from the start, memory runs out, or a file fails.
        """
        self._restore(checkpoint.load())
        curves.keep(self._now.step)
        epochs = self._settings.contrastive + self._settings.epochs
        ends = np.cumsum([len(self._batches(epoch)) for epoch in range(epochs)]).tolist()
        last = (epochs if stop_after is None else stop_after) - 1
        monitor = Monitor(curves, self._task.KIND, ends[last])
        begun = int(np.searchsorted(ends, self._now.step, side="right"))
        findings: tuple[Finding, ...] = ()
        for epoch in range(begun, last + 1):
            failure = self._epoch(epoch, ends, ends[last], monitor, checkpoint, progress)
            if failure is not None:
                findings = (failure,)
                break
            self._end_epoch(epoch, monitor)
            if self._validation and epoch - self._now.best_epoch >= self._settings.patience:
                break
            checkpoint.save(self._state())
        progress(ends[last], ends[last])
        return self._tuned(findings)

    def _epoch(
        self,
        epoch: int,
        ends: list[int],
        total: int,
        monitor: Monitor,
        checkpoint: Checkpoint,
        progress: Progress,
    ) -> Finding | None:
        """Do the epoch's steps that are not done yet; tell if one fails."""
        batches = self._batches(epoch)
        first, saved_at = ends[epoch] - len(batches), time.monotonic()
        for batch in batches[self._now.step - first :]:
            loss = self._learner.step(
                self._material.pick(batch), self._now.step, ends[-1], self._is_contrastive(epoch)
            )
            if not math.isfinite(loss):
                return self._failed(epoch, loss)
            self._now.sum_loss += loss
            self._now.n_losses += 1
            monitor.step(self._stage(epoch), epoch, self._now.step, self._learner.rate, loss)
            self._now.step += 1
            progress(self._now.step, total)
            if self._now.step < ends[epoch] and time.monotonic() - saved_at >= _SAVE_EVERY_S:
                checkpoint.save(self._state())
                saved_at = time.monotonic()
        return None

    def _batches(self, epoch: int) -> list[list[int]]:
        settings, rows = self._settings, self._material.rows
        if self._is_contrastive(epoch):
            return class_batches(self._material.y.tolist(), settings.batch, self._seed, epoch)
        lengths = [row.length for row in rows]
        return shuffled_batches(lengths, settings.batch, self._seed, epoch)

    def _is_contrastive(self, epoch: int) -> bool:
        return epoch < self._settings.contrastive

    def _stage(self, epoch: int) -> str:
        return "contrastive" if self._is_contrastive(epoch) else "lora"

    def _end_epoch(self, epoch: int, monitor: Monitor) -> None:
        now = self._now
        objective = now.sum_loss / max(1, now.n_losses)
        now.sum_loss, now.n_losses = 0.0, 0
        seen = self._judge()
        if seen is None:  # no rows to judge by: the last epoch is the best
            self._keep(epoch)
        elif seen[1].loss < now.best_loss:
            now.best_loss = seen[1].loss
            self._keep(epoch)
        stage = self._stage(epoch)
        monitor.epoch(stage, epoch, now.step - 1, self._learner.rate, objective, seen)

    def _keep(self, epoch: int) -> None:
        """The weights as they are now, as the best."""
        self._now.best_epoch = epoch
        self._best = {name: each.clone() for name, each in self._learner.trained().items()}

    def _judge(self) -> tuple[Seen, Seen] | None:
        """Training and validation rows at the validation rows' best temperature.

        Overconfidence is mended later. None where there are no validation rows.
        """
        if self._validation is None or self._sample is None:
            return None
        held = self._learner.outputs(self._validation)
        temperature = self._task.calibrate(held, self._validation.y)
        taught = self._learner.outputs(self._sample)
        return (
            judge(self._task, taught, self._sample.y, temperature),
            judge(self._task, held, self._validation.y, temperature),
        )

    def _state(self) -> State:
        parts = {
            "now": self._learner.trained(),
            "best": self._best,
            "moment": self._learner.moments(),
        }
        tensors = {
            f"{part}/{name}": each.cpu() for part, of in parts.items() for name, each in of.items()
        }
        return State(tensors, asdict(self._now))

    def _restore(self, state: State | None) -> None:
        if state is None:
            return
        self._now = _Standing(**state.numbers)
        parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "moment": {}}
        for name, tensor in state.tensors.items():
            part, _, of = name.partition("/")
            parts[part][of] = tensor
        self._learner.put(parts["now"])
        self._learner.put_moments(parts["moment"])
        self._best = parts["best"]

    def _failed(self, epoch: int, loss: float) -> Finding:
        """What to say of a loss that is not finite. Raises TrainingError where nothing is kept."""
        what = (
            f"the loss became {loss} at step {self._now.step + 1} (epoch {epoch + 1}); lower "
            "lora.rate, or raise lora.warmup"
        )
        if not self._best:
            raise TrainingError(f"{what}; no epoch was finished before")
        kept = self._now.best_epoch + 1
        return make_finding(
            "lora-diverged",
            f"{what}. The weights of epoch {kept}, the best before, are kept",
            step=self._now.step + 1,
            epoch=epoch + 1,
            kept_epoch=kept,
        )

    def _tuned(self, findings: tuple[Finding, ...]) -> Tuned:
        self._learner.put(self._best)
        loss = self._now.best_loss
        return Tuned(
            factors=self._learner.factors(),
            prototypes=self._learner.prototypes(),
            epochs=self._now.best_epoch + 1,
            loss=loss if math.isfinite(loss) else None,
            findings=findings,
        )
