"""Measuring adapters by the very code that answers requests: graph, head and ranking."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import Adapter
from adapters.answers import rank
from adapters.manifest import Estimate, Measured
from backbone import Backbone, BackboneNotFound, find_backbone, list_backbones, load_backbone
from training.baselines import majority_baseline, tfidf_baseline
from training.data import Rows
from training.errors import InvalidData
from training.features import FeatureCache, Progress, compute_features
from training.job import Columns, fingerprint
from training.metrics import Metrics, measure
from training.splits import Split, split_rows

Score = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # an adapter's, of one row


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The measures, and (label, score) of each row asked for, in the data's order.

    Asked for are the test rows where the data has a split column, else all rows. `held_out` says
    that what was measured are test rows, of the data's split or of training's own.
    """

    measured: Measured
    predictions: list[tuple[str, float]]
    held_out: bool
    warnings: tuple[str, ...]


def evaluate_adapter(
    adapter: Adapter,
    data: Path,
    columns: Columns,
    backbones: Path,
    cache: FeatureCache,
    stage: Callable[[str], Progress],
) -> Evaluated:
    """Measure on the test split, or on all rows where the data has no split column.

    The very rows of the training, without a split column, are measured where training measured:
    on those that it held out.

    Raises:
        BackboneNotFound: the adapter's backbone has not been added.
        InvalidData: the rows cannot be used, or have labels that the adapter does not know.
    """
    if adapter.manifest.task != "classification":
        raise InvalidData(
            f"the adapter does {adapter.manifest.task}; what is measured here is classification"
        )
    rows = columns.read(data)
    training = adapter.manifest.training
    known_rows = training is not None and training.fingerprint == fingerprint(rows)
    seed = training.seed if training is not None else 0
    if rows.splits is None and known_rows:
        split = split_rows(rows, seed=seed)
    else:
        split = _given_split(rows, columns, data)
    labels = adapter.manifest.labels
    known = {label: number for number, label in enumerate(labels)}
    targets = np.array([known.get(label, -1) for label in rows.labels])
    if unknown := sorted({rows.labels[index] for index in split.test if targets[index] < 0}):
        raise InvalidData(
            f"{data} has test labels that the adapter does not know: {', '.join(unknown[:10])}"
        )
    backbone = _backbone(backbones, adapter.manifest.backbone)
    asked = split.test if split.given else np.arange(len(rows.texts))
    texts = [rows.texts[index] for index in asked]
    features = compute_features(backbone, texts, adapter.manifest.feature, cache, stage("features"))
    scores = score_rows(adapter.score, features)
    test_scores = scores[np.isin(asked, split.test)]
    measured = measure_scores(test_scores, rows, split, targets, seed, stage("measure"))
    warnings = []
    if len(asked) > len(split.test):
        warnings.append(
            f"the adapter was trained on these very rows: measured are the {len(split.test)} that "
            f"its training held out, not all {len(asked)}"
        )
    best = [rank(labels, row, 1)[0] for row in scores]
    return Evaluated(measured, best, split.given or known_rows, tuple(warnings))


def score_rows(score: Score, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores [n, C] of features [n, d], computed a row at a time as a server does."""
    return np.stack([score(feature) for feature in features])


def measure_scores(
    scores: NDArray[np.float32],
    rows: Rows,
    split: Split,
    targets: NDArray[np.int64],
    seed: int,
    progress: Progress,
) -> Measured:
    """The test rows' scores [n, C] beside the baselines'; `targets` are label numbers a row."""
    truth, n_labels = targets[split.test], scores.shape[1]
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
