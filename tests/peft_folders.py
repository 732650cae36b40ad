"""Folders as PEFT writes them, by hand: its package is no dependency, even of the tests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Pair = tuple[Matrix, Matrix]  # lora_A [r, in], lora_B [out, r]
Modules = Mapping[str, Pair]

# What PEFT 0.21 writes for LoraConfig(r=4, lora_alpha=8), less what is null there.
CONFIG: dict[str, Any] = {
    "alpha_pattern": {},
    "base_model_name_or_path": None,
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.1,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 4,
    "rank_pattern": {},
    "target_modules": ["query", "value"],
    "task_type": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}


def make_modules(shapes: Mapping[str, tuple[int, int, int]], seed: int = 0) -> dict[str, Pair]:
    """Random factors of module to (rank, width in, width out)."""
    random = np.random.default_rng(seed)
    return {
        module: (
            random.normal(0, 0.5, (rank, inputs)).astype(np.float32),
            random.normal(0, 0.5, (outputs, rank)).astype(np.float32),
        )
        for module, (rank, inputs, outputs) in shapes.items()
    }


def write_peft(
    folder: Path, modules: Modules, others: Mapping[str, Matrix] | None = None, **config: Any
) -> Path:
    """`adapter_config.json` and `adapter_model.safetensors`; `others` are tensors of any name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    tensors: dict[str, Matrix] = {}
    for module, (a, b) in modules.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
    for name, value in (others or {}).items():
        tensors[f"base_model.model.{name}"] = value
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder
