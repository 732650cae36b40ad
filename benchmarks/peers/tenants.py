"""The tenants of the comparison: one head each, as an adapter file and inside a full model."""

import csv
import shutil
from pathlib import Path

import numpy as np

from adapters.adapter import build_adapter
from adapters.manifest import Calibration, Manifest
from backbone.manifest import MODEL_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from benchmarks.peers.full_model import HEAD, MODEL, TOKENIZER
from benchmarks.peers.peer import Tenant
from headstock.commands.common import open_backbone
from headstock.demo import BACKBONE, SAMPLES

LABELS = 77
WIDTH = 384
_GOLDEN_ROWS = 4


def texts() -> list[str]:
    """The sample texts, about 260 short sentences to a support desk."""
    found = []
    for name in ("shop-v2.csv", "clinic.csv"):
        with (SAMPLES / name).open(newline="") as file:
            found += [row["text"] for row in csv.DictReader(file)]
    return list(dict.fromkeys(found))


def make_tenant(folder: Path, number: int) -> Tenant:
    """A tenant with random weights: what it says does not matter, but each says something else."""
    weight = np.random.default_rng(number).standard_normal((LABELS, WIDTH)).astype(np.float32)
    name = f"tenant-{number}"
    labels = tuple(f"{name}/{label}" for label in range(LABELS))
    return Tenant(name, folder / name, weight, labels)


def write_full_model(tenant: Tenant, backbone: Path) -> None:
    """Write the tenant's folder, with a copy of the encoder that no other tenant shares."""
    tenant.folder.mkdir(parents=True)
    shutil.copyfile(backbone / MODEL_FILE, tenant.folder / MODEL)
    weights = backbone / WEIGHTS_FILE  # of a backbone with LoRA graphs, which the model names
    if weights.exists():
        shutil.copyfile(weights, tenant.folder / WEIGHTS_FILE)
    shutil.copyfile(backbone / TOKENIZER_FILE, tenant.folder / TOKENIZER)
    np.savez(tenant.folder / HEAD, weight=tenant.weight, labels=np.array(tenant.labels))


def write_adapter(tenant: Tenant, digest: str, file: Path) -> None:
    """The tenant's adapter file."""
    manifest = Manifest(
        backbone=digest,
        feature="pooled",
        labels=tenant.labels,
        calibration=Calibration(temperature=1.0),
    )
    tensors = {"head.weight": tenant.weight, "head.bias": np.zeros(LABELS, dtype=np.float32)}
    golden = np.random.default_rng(0).standard_normal((_GOLDEN_ROWS, WIDTH)).astype(np.float32)
    file.write_bytes(build_adapter(manifest, tensors, golden))


class Truth:
    """What every tenant's model must say of every text, computed apart from all servers."""

    def __init__(self, rows: list[str]) -> None:
        backbone = open_backbone(BACKBONE)
        features = [backbone.run([backbone.preprocess(row)], ["pooled"])["pooled"] for row in rows]
        self._place = {row: place for place, row in enumerate(rows)}
        self._features = np.concatenate(features)

    def labels(self, tenant: Tenant, rows: list[str]) -> list[str]:
        """The right label of each row."""
        return tenant.classify(self._features[[self._place[row] for row in rows]])
