"""Small real things that tests build on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import build_adapter
from adapters.manifest import HEADS_OF, Calibration, HeadName, Manifest, TaskName

BACKBONE_DIGEST = "ab" * 32
PAIRS = [(task, head) for task, heads in HEADS_OF.items() for head in heads]
RANK = 2
SITES = {"layer.0.query": (8, 8), "layer.0.value": (8, 6)}  # name to width in, width out
_KNN_ROWS = 12
_HIDDEN = 5

Tensors = dict[str, NDArray[np.float32]]


def default_labels(task: TaskName) -> tuple[str, ...]:
    return ("O", "B-x", "I-x") if task == "tagging" else ("no", "yes")


def make_manifest(
    labels: tuple[str, ...] | None = None,
    backbone: str = BACKBONE_DIGEST,
    task: TaskName = "classification",
    head: HeadName = "linear",
    sites: Mapping[str, tuple[int, int]] | None = None,
    rank: int = RANK,
    **changes: Any,
) -> Manifest:
    """Valid for every pair of task and head; `changes` replace parts."""
    labels = labels or default_labels(task)
    parts: dict[str, Any] = {"feature": "tokens" if task == "tagging" else "pooled"}
    if task != "regression":
        parts["calibration"] = Calibration(temperature=0.8)
    if task == "multilabel":
        parts["thresholds"] = (0.5,) * len(labels)
    if head == "centroid":
        parts["centroid"] = {"metric": "cosine", "scale": 10.0}
    if head == "knn":
        parts["knn"] = {"metric": "euclidean", "k": 3, "scale": 0.1}
    if sites:
        parts["lora"] = {"rank": rank, "sites": tuple(sites)}
    return Manifest(task=task, head=head, backbone=backbone, labels=labels, **parts | changes)


def make_tensors(
    n_labels: int = 2,
    width: int = 8,
    seed: int = 0,
    head: HeadName = "linear",
    sites: Mapping[str, tuple[int, int]] | None = None,
    rank: int = RANK,
) -> Tensors:
    """Random weights of a head, and of LoRA at `sites`."""
    random = np.random.default_rng(seed)
    shapes = _head_shapes(head, n_labels, width)
    for site, (inputs, outputs) in (sites or {}).items():
        shapes |= {f"lora.{site}.a": (rank, inputs), f"lora.{site}.b": (rank, outputs)}
    tensors = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    if head == "knn":
        numbers = random.integers(0, n_labels, len(tensors["head.vectors"]))
        tensors["head.vector_labels"] = numbers.astype(np.float32)
    return tensors


def _head_shapes(head: HeadName, n_labels: int, width: int) -> dict[str, tuple[int, ...]]:
    affine = {"head.weight": (n_labels, width), "head.bias": (n_labels,)}
    hidden = {"head.hidden.weight": (_HIDDEN, width), "head.hidden.bias": (_HIDDEN,)}
    shapes: dict[HeadName, dict[str, tuple[int, ...]]] = {
        "linear": affine,
        "mlp": {**affine, **hidden, "head.weight": (n_labels, _HIDDEN)},
        "centroid": {"head.centroids": (n_labels, width)},
        "knn": {"head.vectors": (_KNN_ROWS, width)},
    }
    return shapes[head]


def make_adapter_file(
    labels: tuple[str, ...] | None = None,
    width: int = 8,
    seed: int = 0,
    backbone: str = BACKBONE_DIGEST,
    task: TaskName = "classification",
    head: HeadName = "linear",
    sites: Mapping[str, tuple[int, int]] | None = None,
    rank: int = RANK,
    scale: float = 1.0,
    **changes: Any,
) -> bytes:
    """A fresh adapter with random weights, valid in every respect; with LoRA where sites are.

    LoRA's weights are multiplied by `scale`.
    """
    random = np.random.default_rng(seed + 1)
    golden = random.standard_normal((3, width)).astype(np.float32)
    manifest = make_manifest(labels, backbone, task, head, sites, rank, **changes)
    tensors = make_tensors(len(manifest.labels), width, seed, head, sites, rank)
    tensors |= {
        name: tensors[name] * np.float32(scale) for name in tensors if name.startswith("lora.")
    }
    return build_adapter(manifest, tensors, golden)
