"""A model and its objective, learning a step at a time.

What is random in a step follows from the seed and the step's number alone, so that a training that
was interrupted goes on to the bits of one that was not.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backbone import TextRow
from training.errors import TrainingError
from training.finetune.material import Material
from training.finetune.model import Factors, TunedEncoder
from training.finetune.objectives import Linear, Prototypes, contrastive_loss
from training.finetune.schedule import rate_factor
from training.finetune.settings import LoraRecipe

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's, of each parameter


class Learner:
    """LoRA and the objective's head under AdamW, on the device that the settings name."""

    def __init__(
        self,
        model: TunedEncoder,
        objective: Prototypes | Linear,
        per_token: bool,
        settings: LoraRecipe,
        seed: int,
    ) -> None:
        self._device = _device(settings)
        self._model = model.to(self._device)
        self._objective = objective.to(self._device)
        self._per_token = per_token
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

    @property
    def rate(self) -> float:
        """The rate of LoRA's last step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step(self, batch: Material, number: int, steps: int, contrastive: bool) -> float:
        """Step `number` of 0..steps-1; its loss. The weights are left alone if that is not finite.

        Raises:
            TrainingError: memory runs out.
        """
        torch.manual_seed(self._seed * 1_000_003 + number)
        factor = rate_factor(number, steps, self._settings.warmup)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        with self._advised():
            loss = self._loss(batch, contrastive)
            value = float(loss.detach())
            if math.isfinite(value):
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        if not math.isfinite(value):
            return value
        norm = nn.utils.clip_grad_norm_([*self._lora, *self._head], self._settings.clip)
        if not math.isfinite(float(norm)):
            return float("nan")  # the step would spoil the weights
        self._optimizer.step()
        return value

    def outputs(self, material: Material) -> NDArray[np.float64]:
        """Raw outputs [m, C] without dropout. Raises TrainingError where memory runs out."""
        self._model.eval()
        with self._advised(), torch.inference_mode(), self._precision():
            raw = [
                self._objective(self._features(batch).float()).cpu().double().numpy()
                for batch in _in_order(material.rows, self._settings.batch)
            ]
        return np.concatenate(raw)

    def factors(self) -> dict[str, Factors]:
        """The LoRA as it is now."""
        return self._model.factors()

    def prototypes(self) -> NDArray[np.float32] | None:
        """The objective's vectors [C, d] of classes, None of an objective that has none."""
        if not isinstance(self._objective, Prototypes):
            return None
        found: NDArray[np.float32] = self._objective.prototypes.detach().cpu().numpy().copy()
        return found

    def trained(self) -> dict[str, Tensor]:
        """All trained tensors by name; they change with every step."""
        lora = {
            f"{site}.{name}": parameter.detach()
            for site, product in self._model.products().items()
            for name, parameter in (("a", product.a), ("b", product.b))
        }
        head = {f"head.{name}": each.detach() for name, each in self._objective.named_parameters()}
        return {**lora, **head}

    def put(self, tensors: dict[str, Tensor]) -> None:
        """Set trained tensors."""
        trained = self.trained()
        for name, tensor in tensors.items():
            trained[name].copy_(tensor)

    def moments(self) -> dict[str, Tensor]:
        """What the optimizer remembers, by "kind/name"."""
        return {
            f"{key}/{name}": value
            for name, parameter in self._named()
            for key, value in self._optimizer.state[parameter].items()
        }

    def put_moments(self, moments: dict[str, Tensor]) -> None:
        """Make the optimizer remember."""
        for name, parameter in self._named():
            if f"step/{name}" in moments:
                self._optimizer.state[parameter] = {
                    key: moments[f"{key}/{name}"].to("cpu" if key == "step" else self._device)
                    for key in _MOMENTS
                }

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return list(zip(self.trained(), [*self._lora, *self._head], strict=True))

    def _loss(self, batch: Material, contrastive: bool) -> Tensor:
        y = torch.from_numpy(batch.y).to(self._device)
        weights = torch.from_numpy(batch.weights).float().to(self._device)
        with self._precision():
            features = self._features(batch.rows)
        if contrastive:
            return contrastive_loss(features.float(), y)
        return self._objective.loss(self._objective(features.float()), y, weights)

    def _features(self, rows: Sequence[TextRow]) -> Tensor:
        """Vectors [m, d]: one a row, or one a token that has a tag."""
        if not self._per_token:
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

    @contextmanager
    def _advised(self) -> Iterator[None]:
        """A word of advice where memory runs out."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            text = str(error)
            if isinstance(error, RuntimeError) and "memory" not in text and "alloc" not in text:
                raise
            batch = self._settings.batch
            raise TrainingError(
                f"out of memory with batches of {batch} texts: lower lora.batch (it is {batch}), "
                "or train fewer layers with lora.layers"
            ) from error


def _in_order(rows: Sequence[TextRow], batch: int) -> Iterator[Sequence[TextRow]]:
    for start in range(0, len(rows), batch):
        yield rows[start : start + batch]


def _device(settings: LoraRecipe) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise TrainingError("lora.device: torch sees no CUDA device here; use cpu or auto")
    return torch.device("cuda" if has_cuda and settings.device != "cpu" else "cpu")
