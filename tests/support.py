"""Small real things that tests build on."""

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import build_adapter
from adapters.manifest import Calibration, Manifest

BACKBONE_DIGEST = "ab" * 32


def make_manifest(
    labels: tuple[str, ...] = ("no", "yes"), backbone: str = BACKBONE_DIGEST
) -> Manifest:
    return Manifest(
        backbone=backbone,
        feature="pooled",
        labels=labels,
        calibration=Calibration(temperature=0.8),
    )


def make_tensors(
    n_labels: int = 2, width: int = 8, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return {
        "head.weight": random.standard_normal((n_labels, width)).astype(np.float32),
        "head.bias": random.standard_normal(n_labels).astype(np.float32),
    }


def make_adapter_file(
    labels: tuple[str, ...] = ("no", "yes"),
    width: int = 8,
    seed: int = 0,
    backbone: str = BACKBONE_DIGEST,
) -> bytes:
    """A fresh adapter with random weights, valid in every respect."""
    random = np.random.default_rng(seed + 1)
    golden = random.standard_normal((3, width)).astype(np.float32)
    return build_adapter(
        make_manifest(labels, backbone), make_tensors(len(labels), width, seed), golden
    )
