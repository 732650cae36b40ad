"""What LoRA is trained for: a head of the objective's own on the features, and its loss.

The adapter's head is fitted afterwards, on features from the graph that serves.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.finetune.prototypes import COSINE_SCALE
from training.tasks.base import CLASS, LABELS, Kind

_CONTRASTIVE_TEMPERATURE = 0.1


class Prototypes(nn.Module):
    """Classes: scaled cosine to a trained vector a class, started at the classes' means.

    (A cosine classifier as in Gidaris and Komodakis 2018, on label-smoothed cross-entropy.)
    """

    def __init__(self, means: NDArray[np.float32], smoothing: float) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.from_numpy(means.copy()))
        self.smoothing = smoothing

    def forward(self, features: Tensor) -> Tensor:
        """Raw outputs [m, C]."""
        near = (
            functional.normalize(features, dim=1) @ functional.normalize(self.prototypes, dim=1).T
        )
        return COSINE_SCALE * near

    def loss(self, raw: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """Cross-entropy with label smoothing."""
        losses = functional.cross_entropy(raw, y, reduction="none", label_smoothing=self.smoothing)
        return (losses * weights).sum() / weights.sum()


class Linear(nn.Module):
    """Labels and values: a linear map of standardised features, started at zero."""

    mean: Tensor
    spread: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, features: NDArray[np.float32], y: NDArray[Any], kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        width, n_outputs = features.shape[1], y.shape[1]
        self.register_buffer("mean", torch.from_numpy(features.mean(axis=0)))
        self.register_buffer("spread", torch.from_numpy(features.std(axis=0) + 1e-6))
        self.register_buffer("shift", torch.zeros(n_outputs))
        self.register_buffer("scale", torch.ones(n_outputs))
        if kind != LABELS:
            self.shift += torch.from_numpy(y.mean(axis=0)).float()
            self.scale *= torch.from_numpy(np.maximum(y.std(axis=0), 1e-9)).float()
        self.linear = nn.Linear(width, n_outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Raw outputs [m, C]; of values in their own units."""
        raw: Tensor = self.linear((features - self.mean) / self.spread)
        return raw * self.scale + self.shift

    def loss(self, raw: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """Binary cross-entropy of labels; squared error of values, each target in its spread."""
        if self.kind == LABELS:
            losses = functional.binary_cross_entropy_with_logits(raw, y.float(), reduction="none")
        else:
            losses = ((raw - y.float()) / self.scale) ** 2
        return (losses.mean(dim=1) * weights).sum() / weights.sum()


def make_objective(
    kind: Kind, features: NDArray[np.float32], y: NDArray[Any], n_outputs: int, smoothing: float
) -> Prototypes | Linear:
    """The objective of a kind of targets, started from features [m, d] before any training."""
    if kind != CLASS:
        return Linear(features, y, kind)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(norms, 1e-12)
    overall = unit.mean(axis=0)
    means = np.stack(
        [
            unit[y == label].mean(axis=0) if (y == label).any() else overall
            for label in range(n_outputs)
        ]
    )
    return Prototypes(means.astype(np.float32), smoothing)


def contrastive_loss(features: Tensor, y: Tensor) -> Tensor:
    """Supervised contrastive loss of one batch (Khosla et al. 2020, L_out); linear in memory.

    Rows without another row of their class in the batch say nothing.
    """
    unit = functional.normalize(features, dim=1)
    near = unit @ unit.T / _CONTRASTIVE_TEMPERATURE
    itself = torch.eye(len(y), dtype=torch.bool, device=y.device)
    near = near.masked_fill(itself, float("-inf"))
    log_p = near - near.logsumexp(dim=1, keepdim=True)
    same = (y[:, None] == y[None, :]) & ~itself
    n_same = same.sum(dim=1)
    has_same = n_same > 0
    if not has_same.any():
        return features.sum() * 0
    of_same = log_p.masked_fill(~same, 0.0).sum(dim=1)[has_same] / n_same[has_same]
    loss: Tensor = -of_same.mean()
    return loss
