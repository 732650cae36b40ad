"""LoRA for a backbone from labelled rows: the backbone's source in torch to weights by site."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backbone import Backbone
from training.backbones.export import load_encoder
from training.backbones.folder import ModelFolder, model_folder, weights_sha256
from training.backbones.sources import resolve_again
from training.curves import Curves
from training.errors import TrainingError
from training.finetune.checkpoint import Checkpoint
from training.finetune.learner import Learner
from training.finetune.loop import LoraTraining, Progress, Tuned
from training.finetune.material import Material
from training.finetune.model import TunedEncoder
from training.finetune.objectives import make_objective
from training.finetune.settings import LoraRecipe
from training.run import Run
from training.tasks import Task


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Texts with encoded targets y [m] and weights [m] of their vectors.

    `features` [m, d] are those of the frozen backbone: where the objective starts.
    """

    texts: Sequence[str]
    y: NDArray[Any]
    weights: NDArray[np.float64]
    features: NDArray[np.float32]


class Tuner:
    """Trains LoRA of one backbone, again and again, from the same frozen weights."""

    def __init__(
        self,
        backbone: Backbone,
        task: Task[Any],
        settings: LoraRecipe,
        seed: int,
        weights: Path | None = None,
    ) -> None:
        """`weights`: the torch model's folder, where the backbone's source cannot be found again.

        Raises:
            BackboneError, TrainingError: there is no torch model with the backbone's weights.
        """
        self._backbone = backbone
        self._task = task
        self._settings = settings
        self._seed = seed
        self._folder = _torch_folder(backbone, weights)

    def train(
        self,
        rows: Labelled,
        validation: Labelled | None,
        n_labels: int,
        run: Run | None,
        phase: str,
        progress: Progress,
        epochs: int | None = None,
    ) -> Tuned:
        """LoRA of the best epoch by the validation rows; after `epochs` where there are none.

        Curves and the checkpoint go to `run`. Raises TrainingError.
        """
        torch.manual_seed(self._seed)
        prompt = self._backbone.manifest.preprocessing.prompt
        encoder = load_encoder(self._folder.path, prompt)
        model = TunedEncoder(encoder, self._backbone.manifest, self._settings)
        objective = make_objective(
            self._task.KIND, rows.features, rows.y, n_labels, self._settings.smoothing
        )
        material = self._material(rows)
        key = self._key(rows, validation, phase, epochs)
        learner = Learner(model, objective, self._task.PER_TOKEN, self._settings, self._seed)
        training = LoraTraining(
            learner,
            self._task,
            material,
            None if validation is None else self._material(validation),
            self._settings,
            self._seed,
        )
        return training.run(
            Curves(run.curves(phase) if run else None),
            Checkpoint(run.checkpoint(phase) if run else None, key),
            progress,
            epochs,
        )

    def _material(self, rows: Labelled) -> Material:
        preprocessed = [
            self._backbone.preprocess(text, self._task.PER_TOKEN) for text in rows.texts
        ]
        return Material(preprocessed, rows.y, rows.weights)

    def _key(
        self, rows: Labelled, validation: Labelled | None, phase: str, epochs: int | None
    ) -> str:
        """What makes two trainings the same."""
        known = {
            "backbone": self._backbone.digest,
            "settings": self._settings.model_dump(mode="json"),
            "seed": self._seed,
            "task": self._task.NAME,
            "phase": phase,
            "epochs": epochs,
        }
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
        for part in (rows, validation):
            if part is not None:
                digest.update(json.dumps(list(part.texts)).encode())
                digest.update(np.ascontiguousarray(part.y).tobytes())
                digest.update(part.weights.tobytes())
        return digest.hexdigest()


def _torch_folder(backbone: Backbone, weights: Path | None) -> ModelFolder:
    """The folder of the torch model whose weights the backbone has."""
    source = backbone.manifest.source
    if source.kind == "onnx":
        raise TrainingError(
            f"backbone {backbone.name} comes from an ONNX file: there is no torch model to train "
            "LoRA in; add it from a Hugging Face id or folder"
        )
    if weights is not None:
        found, digest = ModelFolder(weights, source), weights_sha256(model_folder(weights))
    elif source.kind == "folder":
        raise TrainingError(
            f"backbone {backbone.name} was added from a folder {source.id!r}; say where it is "
            "with --weights-folder FOLDER"
        )
    else:
        found = resolve_again(source, backbone.folder.parent)
        digest = found.source.weights_sha256
    if digest != source.weights_sha256:
        raise TrainingError(
            f"{found.path} is not what backbone {backbone.name} was made of (sha256 "
            f"{source.weights_sha256}); name the folder of that model with --weights-folder"
        )
    return found
