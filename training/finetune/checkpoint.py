"""Where a training stands, on disk: what a resumed one needs to end with the same bits."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from adapters.container import write_file
from training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class State:
    """Tensors by name, and numbers as JSON."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


class Checkpoint:
    """One file, replaced at once; it belongs to the training whose `key` it bears."""

    def __init__(self, path: Path | None, key: str) -> None:
        self._path = path
        self._key = key

    def save(self, state: State) -> None:
        """Keep a state in place of the last one. Raises TrainingError."""
        if self._path is None:
            return
        metadata = {"key": self._key, "numbers": json.dumps(state.numbers)}
        content = safetensors.torch.save(
            {name: tensor.contiguous() for name, tensor in state.tensors.items()}, metadata
        )
        write_file(self._path, content)

    def load(self) -> State | None:
        """The state that was kept, None where there is none.

        Raises:
            TrainingError: it is of another training, or cannot be read.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            with safetensors.safe_open(self._path, "pt") as file:
                metadata = file.metadata() or {}
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
        except Exception as error:  # safetensors has an error of its own that is no OSError
            raise TrainingError(f"the checkpoint {self._path} cannot be read: {error}") from error
        if metadata.get("key") != self._key:
            raise TrainingError(
                f"{self._path} is the checkpoint of another training (other data, backbone or "
                "settings); leave out --resume to begin anew, or name another folder with --run"
            )
        return State(tensors, json.loads(metadata["numbers"]))
