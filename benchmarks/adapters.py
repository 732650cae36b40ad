"""Adapter files with random heads: what they say does not matter, what they cost does."""

from pathlib import Path

import numpy as np

from adapters.adapter import build_adapter
from adapters.manifest import Calibration, Manifest


def write_adapter(
    folder: Path, name: str, digest: str, seed: int, n_labels: int, width: int
) -> Path:
    """A fresh adapter for a backbone of this digest, whose labels say whose it is."""
    random = np.random.default_rng(seed)
    manifest = Manifest(
        backbone=digest,
        feature="pooled",
        labels=tuple(f"{name}/{number}" for number in range(n_labels)),
        calibration=Calibration(temperature=1.0),
    )
    tensors = {
        "head.weight": random.standard_normal((n_labels, width)).astype(np.float32),
        "head.bias": np.zeros(n_labels, dtype=np.float32),
    }
    golden = random.standard_normal((4, width)).astype(np.float32)
    file = folder / f"{name}.safetensors"
    file.write_bytes(build_adapter(manifest, tensors, golden))
    return file
