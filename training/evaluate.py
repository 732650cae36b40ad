"""Measuring adapters by the very code that answers requests: graph, head and ranking."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import Adapter, rank, read_adapter
from adapters.container import MAX_FILE_BYTES
from adapters.errors import InvalidAdapter
from adapters.heads import Head
from adapters.manifest import Estimate, Measured
from backbone import Backbone, BackboneNotFound, find_backbone, list_backbones, load_backbone
from training.baselines import majority_baseline, tfidf_baseline
from training.data import Rows
from training.errors import InvalidData
from training.features import FeatureCache, Progress, compute_features
from training.job import Columns
from training.metrics import Metrics, measure
from training.splits import Split


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The measures, and (label, score) of each test row in the data's order."""

    measured: Measured
    predictions: list[tuple[str, float]]


def read_adapter_file(path: Path) -> Adapter:
    """Read and prove an adapter file. Raises InvalidAdapter."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidAdapter(f"{path} has more than the {MAX_FILE_BYTES} bytes of an adapter")
        content = path.read_bytes()
    except OSError as error:
        raise InvalidAdapter(f"cannot read {path}: {error.strerror}") from error
    try:
        return read_adapter(content)
    except InvalidAdapter as error:
        raise InvalidAdapter(f"{path}: {error}") from error


def evaluate_adapter(
    adapter: Adapter,
    data: Path,
    columns: Columns,
    backbones: Path,
    cache: FeatureCache,
    stage: Callable[[str], Progress],
) -> Evaluated:
    """Measure on the test split, or on all rows where the data has no split column.

    Raises:
        BackboneNotFound: the adapter's backbone has not been added.
        InvalidData: the rows cannot be used, or have labels that the adapter does not know.
    """
    rows = columns.read(data)
    split = _given_split(rows, columns, data)
    labels = adapter.manifest.labels
    known = {label: number for number, label in enumerate(labels)}
    targets = np.array([known.get(label, -1) for label in rows.labels])
    if unknown := sorted({rows.labels[index] for index in split.test if targets[index] < 0}):
        raise InvalidData(
            f"{data} has test labels that the adapter does not know: {', '.join(unknown[:10])}"
        )
    backbone = _backbone(backbones, adapter.manifest.backbone)
    texts = [rows.texts[index] for index in split.test]
    features = compute_features(backbone, texts, adapter.manifest.feature, cache, stage("features"))
    measured = measure_adapter(
        adapter.head, features, rows, split, targets, len(labels), 0, stage("measure")
    )
    best = [rank(labels, adapter.head.score(feature), 1)[0] for feature in features]
    return Evaluated(measured, best)


def measure_adapter(
    head: Head,
    test_features: NDArray[np.float32],
    rows: Rows,
    split: Split,
    targets: NDArray[np.int64],
    n_labels: int,
    seed: int,
    progress: Progress,
) -> Measured:
    """The head and the baselines on the same test rows; `targets` are label numbers a row."""
    truth = targets[split.test]
    scores = np.stack([head.score(feature) for feature in test_features])
    ours = _estimates(measure(scores.astype(np.float64), truth, seed=seed))
    progress(1, 3)
    baselines: dict[str, dict[str, Estimate]] = {}
    known = split.train[targets[split.train] >= 0]
    if len(known):
        majority = majority_baseline(targets[known], truth, n_labels)
        baselines["majority"] = _estimates(measure(majority, truth, seed=seed))
    progress(2, 3)
    if len(np.unique(targets[known])) > 1:
        tfidf = tfidf_baseline(
            [rows.texts[index] for index in known],
            targets[known],
            [rows.texts[index] for index in split.test],
            n_labels,
            seed,
        )
        baselines["tfidf"] = _estimates(measure(tfidf, truth, seed=seed))
    progress(3, 3)
    return Measured(rows=len(truth), adapter=ours, baselines=baselines)


def _given_split(rows: Rows, columns: Columns, data: Path) -> Split:
    """The data's own splits; all rows are test rows where it has none."""
    if rows.splits is None:
        everything = np.arange(len(rows.texts))
        return Split(train=everything[:0], test=everything, given=False)
    splits = np.array(rows.splits)
    test = np.flatnonzero(splits == columns.test)
    if not len(test):
        raise InvalidData(
            f"{data} has no rows of the split {columns.test!r}; its splits are "
            f"{', '.join(sorted(set(rows.splits)))}; choose one with --test-split"
        )
    return Split(train=np.flatnonzero(splits == columns.train), test=test, given=True)


def _backbone(root: Path, digest: str) -> Backbone:
    for manifest in list_backbones(root):
        if manifest.digest == digest:
            return load_backbone(find_backbone(root, manifest.name))
    names = ", ".join(manifest.name for manifest in list_backbones(root)) or "none"
    raise BackboneNotFound(
        f"the adapter was trained on backbone {digest}; added under {root}: {names}. Add that "
        "backbone first, with the same versions of torch and transformers"
    )


def _estimates(metrics: Metrics) -> dict[str, Estimate]:
    names = ("accuracy", "macro_f1", "log_loss", "calibration_error")
    found = {name: getattr(metrics, name) for name in names}
    return {
        name: Estimate(value=float(each.value), low=float(each.low), high=float(each.high))
        for name, each in found.items()
    }
