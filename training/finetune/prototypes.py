"""The vectors of classes that LoRA was trained beside, as a head."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import CentroidSettings
from training.heads import Fit, Fold, Problem
from training.heads.base import FittedHead
from training.heads.outputs import raw_outputs
from training.tasks import Task

COSINE_SCALE = 20.0  # of the cosines that they are compared by, in training and in the head
NAME = "prototypes"  # where a manifest names the way of fitting


def as_head(prototypes: NDArray[np.float32]) -> FittedHead:
    """Prototypes [C, d] as they stood in the loss."""
    settings = CentroidSettings(metric="cosine", scale=COSINE_SCALE)
    return FittedHead("centroid", {"head.centroids": prototypes}, centroid=settings)


def judge_prototypes(
    prototypes: NDArray[np.float32], task: Task[Any], problem: Problem, fold: Fold
) -> Fit:
    """That head with its temperature and losses, by the vectors that the fold holds out."""
    head = as_head(prototypes)
    y, weights = problem.y[fold.held], problem.weights[fold.held]
    raw = raw_outputs(head, problem.n_outputs, problem.x[fold.held])
    temperature = task.calibrate(raw, y)
    losses = weights * task.losses(raw, y, temperature)
    return Fit(head, {"method": NAME}, temperature, None, losses, folds=1)
