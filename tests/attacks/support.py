"""What attacks share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.errors import InvalidAdapter
from backbone import Backbone
from tests.peft_folders import Matrix
from tests.tiny import WIDTH
from training.errors import InvalidPeft
from training.peft.lora import read_peft

QUERY = {"layer.query": (4, WIDTH, WIDTH)}
PEFT_CONFIG, PEFT_TENSORS = "adapter_config.json", "adapter_model.safetensors"


def set_item(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one value in nested dictionaries and lists."""

    def change(target: Any) -> None:
        for part in path[:-1]:
            target = target[part]
        target[path[-1]] = value

    return change


def zeros(*shape: int) -> Matrix:
    """A factor or a head of zeros."""
    return np.zeros(shape, np.float32)


def peft_refusal(folder: Path, backbone: Backbone) -> str:
    """Why the LoRA of a folder that PEFT saved is refused."""
    with pytest.raises((InvalidPeft, InvalidAdapter)) as refused:
        read_peft(folder, backbone.manifest)
    return str(refused.value)
