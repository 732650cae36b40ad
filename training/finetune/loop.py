"""The steps of LoRA training: batches, rates, early stopping, checkpoints.

What is random in a step follows from the seed and the step's number alone, so that a training that
was interrupted goes on to the bits of one that was not.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backbone import TextRow
from training.curves import Curves
from training.errors import TrainingError
from training.finetune.checkpoint import Checkpoint, State
from training.finetune.model import Factors, TunedEncoder
from training.finetune.monitor import Monitor, Seen, judge, spread
from training.finetune.objectives import Linear, Prototypes, contrastive_loss
from training.finetune.schedule import class_batches, rate_factor, shuffled_batches
from training.finetune.settings import LoraRecipe
from training.tasks import Task

Progress = Callable[[int, int], None]
_SAVE_EVERY_S = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Preprocessed rows with their encoded targets.

    `y` and `weights` [m] are of the rows' vectors: one a row, or one a token that has a tag, in
    the rows' order.
    """

    rows: Sequence[TextRow]
    y: NDArray[Any]
    weights: NDArray[np.float64]

    def starts(self) -> NDArray[np.int64]:
        """[n + 1]: where each row's vectors begin."""
        sizes = [1 if row.spans is None else len(row.spans.positions) for row in self.rows]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def pick(self, places: Sequence[int]) -> "Material":
        """Some of the rows."""
        starts = self.starts()
        vectors = np.concatenate([np.arange(starts[each], starts[each + 1]) for each in places])
        return Material(
            [self.rows[each] for each in places], self.y[vectors], self.weights[vectors]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """The LoRA of the best epoch; `epochs` of the fixed length were trained to reach it.

    `loss` is of the validation rows, None without such; `notes` are for the user's eyes.
    """

    factors: dict[str, Factors]
    epochs: int
    loss: float | None
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Standing:
    """What changes from step to step, beside the tensors."""

    step: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    sum_loss: float = 0.0
    n_losses: int = 0


class LoraTraining:
    """One training of one encoder. `run` may be called once."""

    def __init__(
        self,
        model: TunedEncoder,
        objective: Prototypes | Linear,
        task: Task[Any],
        material: Material,
        validation: Material | None,
        settings: LoraRecipe,
        seed: int,
    ) -> None:
        self._device = _device(settings)
        self._model = model.to(self._device)
        self._objective = objective.to(self._device)
        self._task = task
        self._material = material
        self._starts = material.starts()
        self._validation = validation
        self._sample = (  # as many training rows: what the gap is measured on
            None
            if validation is None
            else material.pick(spread(len(material.rows), len(validation.rows)))
        )
        self._settings = settings
        self._seed = seed
        self._lora = [
            each for product in model.products().values() for each in (product.a, product.b)
        ]
        self._head = list(objective.parameters())
        self._optimizer = torch.optim.AdamW(
            [
                {"params": self._lora, "lr": settings.rate},
                {"params": self._head, "lr": settings.head_rate},
            ],
            weight_decay=settings.weight_decay,
        )
        self._peaks = [group["lr"] for group in self._optimizer.param_groups]
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
        notes: tuple[str, ...] = ()
        epochs = self._settings.contrastive + self._settings.epochs
        last = epochs if stop_after is None else stop_after
        plan = [len(self._batches(epoch)) for epoch in range(epochs)]
        ends = np.cumsum(plan).tolist()
        monitor = Monitor(curves, self._task.KIND, ends[last - 1])
        saved_at = time.monotonic()
        with _memory(self._settings):
            while self._now.step < ends[last - 1]:
                epoch = int(np.searchsorted(ends, self._now.step, side="right"))
                within = self._now.step - (ends[epoch] - plan[epoch])
                loss = self._step(self._batches(epoch)[within], epoch, ends[-1])
                if not math.isfinite(loss):
                    notes = (self._failed(epoch, loss),)
                    break
                monitor.step(*self._place(epoch), self._rate(), loss)
                self._now.step += 1
                progress(self._now.step, ends[last - 1])
                if self._now.step == ends[epoch]:
                    self._end_epoch(epoch, monitor)
                    if self._validation and epoch - self._now.best_epoch >= self._settings.patience:
                        break
                if time.monotonic() - saved_at >= _SAVE_EVERY_S or self._now.step in ends:
                    checkpoint.save(self._state())
                    saved_at = time.monotonic()
        progress(ends[last - 1], ends[last - 1])
        return self._tuned(notes)

    def _batches(self, epoch: int) -> list[list[int]]:
        settings, rows = self._settings, self._material.rows
        if self._is_contrastive(epoch):
            return class_batches(self._material.y.tolist(), settings.batch, self._seed, epoch)
        lengths = [row.length for row in rows]
        return shuffled_batches(lengths, settings.batch, self._seed, epoch)

    def _place(self, epoch: int) -> tuple[str, int, int]:
        """Where the training stands, for its curves."""
        return "contrastive" if self._is_contrastive(epoch) else "lora", epoch, self._now.step

    def _rate(self) -> float:
        """The rate of LoRA's last step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def _is_contrastive(self, epoch: int) -> bool:
        return epoch < self._settings.contrastive

    def _step(self, batch: Sequence[int], epoch: int, steps: int) -> float:
        torch.manual_seed(self._seed * 1_000_003 + self._now.step)
        factor = rate_factor(self._now.step, steps, self._settings.warmup)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        vectors = np.concatenate(
            [np.arange(self._starts[place], self._starts[place + 1]) for place in batch]
        )
        y = torch.from_numpy(self._material.y[vectors]).to(self._device)
        weights = torch.from_numpy(self._material.weights[vectors]).float().to(self._device)
        with self._precision():
            features = self._features([self._material.rows[place] for place in batch])
        if self._is_contrastive(epoch):
            loss = contrastive_loss(features.float(), y)
        else:
            loss = self._objective.loss(self._objective(features.float()), y, weights)
        value = float(loss.detach())
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            norm = nn.utils.clip_grad_norm_([*self._lora, *self._head], self._settings.clip)
            if not math.isfinite(float(norm)):
                return float("nan")  # the step would spoil the weights
            self._optimizer.step()
            self._now.sum_loss += value
            self._now.n_losses += 1
        return value

    def _features(self, rows: Sequence[TextRow]) -> Tensor:
        """Vectors [m, d]: one a row, or one a token that has a tag."""
        if not self._task.PER_TOKEN:
            return self._model.pooled(rows)
        tokens, _ = self._model(rows)
        return torch.cat(
            [
                each[torch.from_numpy(row.spans.positions).to(each.device)]
                for each, row in zip(tokens, rows, strict=True)
                if row.spans is not None
            ]
        )

    def _precision(self) -> torch.autocast:
        """Mixed precision on CUDA; on a CPU float32."""
        return torch.autocast("cuda", torch.bfloat16, enabled=self._device.type == "cuda")

    def _end_epoch(self, epoch: int, monitor: Monitor) -> None:
        now = self._now
        objective = now.sum_loss / max(1, now.n_losses)
        now.sum_loss, now.n_losses = 0.0, 0
        seen = self._judge()
        found = None if seen is None else seen[1].loss
        if found is None or found < now.best_loss:
            now.best_loss = now.best_loss if found is None else found
            now.best_epoch = epoch
            self._best = {name: each.clone() for name, each in self._trained().items()}
        stage, _, step = self._place(epoch)
        monitor.epoch(stage, epoch, step - 1, self._rate(), objective, seen)

    def _judge(self) -> tuple[Seen, Seen] | None:
        """Training and validation rows at the validation rows' best temperature.

        Overconfidence is mended later. None where there are no validation rows.
        """
        if self._validation is None or self._sample is None:
            return None
        held = self._outputs(self._validation)
        temperature = self._task.calibrate(held, self._validation.y)
        taught = self._outputs(self._sample)
        return (
            judge(self._task, taught, self._sample.y, temperature),
            judge(self._task, held, self._validation.y, temperature),
        )

    def _outputs(self, material: Material) -> NDArray[np.float64]:
        """Raw outputs [m, C] without dropout."""
        self._model.eval()
        with torch.inference_mode(), self._precision():
            raw = [
                self._objective(self._features(batch).float()).cpu().double().numpy()
                for batch in _in_order(material.rows, self._settings.batch)
            ]
        return np.concatenate(raw)

    def _trained(self) -> dict[str, Tensor]:
        """All trained tensors by name."""
        lora = {
            f"{site}.{name}": parameter.detach()
            for site, product in self._model.products().items()
            for name, parameter in (("a", product.a), ("b", product.b))
        }
        head = {f"head.{name}": each.detach() for name, each in self._objective.named_parameters()}
        return {**lora, **head}

    def _state(self) -> State:
        tensors = {f"now.{name}": each for name, each in self._trained().items()}
        tensors |= {f"best.{name}": each for name, each in self._best.items()}
        names = list(self._trained())
        for name, parameter in zip(names, [*self._lora, *self._head], strict=True):
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        return State(
            {name: each.cpu() for name, each in tensors.items()},
            {field: getattr(self._now, field) for field in _Standing.__slots__},
        )

    def _restore(self, state: State | None) -> None:
        if state is None:
            return
        numbers = dict(state.numbers)
        numbers["best_loss"] = float(numbers["best_loss"])
        self._now = _Standing(**numbers)
        parameters = [*self._lora, *self._head]
        for (name, tensor), parameter in zip(self._trained().items(), parameters, strict=True):
            tensor.copy_(state.tensors[f"now.{name}"])
            moments = ("step", "exp_avg", "exp_avg_sq")
            if f"step.{name}" in state.tensors:
                self._optimizer.state[parameter] = {
                    key: state.tensors[f"{key}.{name}"].to("cpu" if key == "step" else self._device)
                    for key in moments
                }
            if f"best.{name}" in state.tensors:
                self._best[name] = state.tensors[f"best.{name}"].to(self._device)

    def _failed(self, epoch: int, loss: float) -> str:
        """What to say of a loss that is not finite. Raises TrainingError where nothing is kept."""
        what = (
            f"the loss became {loss} at step {self._now.step + 1} (epoch {epoch + 1}); lower "
            "lora.rate, or raise lora.warmup"
        )
        if not self._best:
            raise TrainingError(f"{what}; no epoch was finished before")
        return f"{what}. The weights of epoch {self._now.best_epoch + 1}, the best before, are kept"

    def _tuned(self, notes: tuple[str, ...]) -> Tuned:
        for name, tensor in self._trained().items():
            if name in self._best:
                tensor.copy_(self._best[name])
        loss = self._now.best_loss
        return Tuned(
            factors=self._model.factors(),
            epochs=self._now.best_epoch + 1,
            loss=loss if math.isfinite(loss) else None,
            notes=notes,
        )


def _in_order(rows: Sequence[TextRow], batch: int) -> Iterator[Sequence[TextRow]]:
    for start in range(0, len(rows), batch):
        yield rows[start : start + batch]


def _device(settings: LoraRecipe) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise TrainingError("lora.device: torch sees no CUDA device here; use cpu or auto")
    return torch.device("cuda" if has_cuda and settings.device != "cpu" else "cpu")


@contextmanager
def _memory(settings: LoraRecipe) -> Iterator[None]:
    """A word of advice where memory runs out."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, RuntimeError) and "memory" not in text and "alloc" not in text:
            raise
        raise TrainingError(
            f"out of memory with batches of {settings.batch} texts: lower lora.batch (it is "
            f"{settings.batch}), or train fewer layers with lora.layers"
        ) from error
