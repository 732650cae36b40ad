"""Tenants by the thousand, with random adapters, written to a registry before a server opens it.

What the adapters say does not matter here, what they cost does.
"""

import hashlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, insert

from adapters.adapter import build_adapter
from adapters.manifest import Calibration, LoraSettings, Manifest
from adapters.registry import tables
from adapters.registry.database import Database
from adapters.registry.keys import new_key, secret_digest
from backbone import Manifest as BackboneManifest
from backbone.cores import cores
from benchmarks.job import Target

ADAPTER = "intents"
_CHUNK = 250
_LITTLE = np.float32(0.01)
_TABLES = (
    tables.tenants,
    tables.keys,
    tables.adapters,
    tables.versions,
    tables.releases,
    tables.audit,
)


@dataclass(frozen=True, slots=True)
class Lora:
    """LoRA at the sites whose names end in one of `endings`; at all of them where it is empty."""

    rank: int
    endings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One tenant with one adapter, to be made."""

    tenant: str
    n_labels: int
    seed: int
    lora: Lora | None = None


def seed_registry(
    database: Path, backbone: BackboneManifest, wanted: Sequence[Wanted]
) -> list[Target]:
    """Make the tenants, each with a released adapter and a key that may predict."""
    chunks = [wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK)]
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads
    with _writing(database) as connection, ProcessPoolExecutor(cores(), context) as pool:
        made = pool.map(_make, [backbone] * len(chunks), chunks)
        files = [file for chunk in made for file in chunk]
        return _insert(connection, backbone.digest, wanted, files)


@contextmanager
def _writing(database: Path) -> Iterator[Connection]:
    opened = Database.open(f"sqlite:///{database}")
    try:
        with opened.write() as connection:
            yield connection
    finally:
        opened.close()


def _insert(
    connection: Connection,
    backbone: str,
    wanted: Sequence[Wanted],
    files: Sequence[tuple[str, bytes]],
) -> list[Target]:
    """The rows that `Registry` would write, a table at a time.

    Through the registry's own methods, some twenty statements a tenant, this takes a minute.
    """
    rows: dict[Table, list[dict[str, object]]] = {table: [] for table in _TABLES}
    now = datetime.now(UTC)
    targets = []
    for number, (each, (manifest, content)) in enumerate(zip(wanted, files, strict=True), 1):
        key, digest = new_key(), hashlib.sha256(content).hexdigest()
        targets.append(Target(each.tenant, ADAPTER, key.text))
        rows[tables.tenants].append({"id": number, "name": each.tenant, "created_at": now})
        rows[tables.keys].append(
            {"id": key.id, "tenant_id": number, "secret_sha256": secret_digest(key.secret)}
            | {"scopes": "predict", "created_at": now, "revoked_at": None}
        )
        rows[tables.adapters].append({"id": number, "tenant_id": number, "name": ADAPTER})
        rows[tables.versions].append(
            {"adapter_id": number, "number": 1, "digest": digest, "backbone": backbone}
            | {"size": len(content), "created_at": now, "manifest": manifest, "content": content}
        )
        rows[tables.releases].append(
            {"adapter_id": number, "revision": 1, "stable": 1, "parent": None, "created_at": now}
        )
        rows[tables.audit].append(
            {"at": now, "actor": "setup", "action": "release.set", "tenant": each.tenant}
            | {"adapter": ADAPTER, "detail": "{}"}
        )
    for table, values in rows.items():
        connection.execute(insert(table), values)
    return targets


def _make(backbone: BackboneManifest, chunk: Sequence[Wanted]) -> list[tuple[str, bytes]]:
    return [make_adapter(backbone, each) for each in chunk]


def make_adapter(backbone: BackboneManifest, wanted: Wanted) -> tuple[str, bytes]:
    """The manifest and the file of a random adapter."""
    random = np.random.default_rng(wanted.seed)
    width = backbone.width("pooled")
    lora = None if wanted.lora is None else _settings(backbone, wanted.lora)
    manifest = Manifest(
        backbone=backbone.digest,
        feature="pooled",
        labels=tuple(f"{wanted.tenant}/{number}" for number in range(wanted.n_labels)),
        calibration=Calibration(temperature=1.0),
        lora=lora,
    )
    tensors = {
        "head.weight": _normal(random, wanted.n_labels, width),
        "head.bias": np.zeros(wanted.n_labels, dtype=np.float32),
    }
    if lora is not None:
        tensors |= _weights(backbone, lora, random)
    golden = _normal(random, 1, width)
    return manifest.to_json(), build_adapter(manifest, tensors, golden)


def _settings(backbone: BackboneManifest, lora: Lora) -> LoraSettings:
    names = [name for name in backbone.sites if name.endswith(lora.endings or ("",))]
    return LoraSettings(rank=lora.rank, sites=tuple(sorted(names)))


def _weights(
    backbone: BackboneManifest, lora: LoraSettings, random: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Little values: as trained LoRA does, they move the features and keep them finite."""
    tensors = {}
    for name in lora.sites:
        site = backbone.sites[name]
        tensors[f"lora.{name}.a"] = _normal(random, lora.rank, site.inputs) * _LITTLE
        tensors[f"lora.{name}.b"] = _normal(random, lora.rank, site.outputs) * _LITTLE
    return tensors


def _normal(random: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    return random.standard_normal((rows, columns)).astype(np.float32)
