"""Labelled rows to an adapter: read, split, featurise, fit, measure, write; top to bottom."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import build_adapter
from adapters.manifest import Calibration, Manifest, Training
from adapters.scoring import build_scorer
from backbone import Backbone
from training.data import Rows
from training.evaluate import measure_scores, score_rows
from training.features import FeatureCache, Progress, compute_features
from training.fit import LinearFit, fit_linear
from training.job import Columns, fingerprint
from training.splits import Leaks, Split, find_leaks, split_rows

FEATURE = "pooled"
_GOLDEN_ROWS = 4

Stage = Callable[[str], Progress]  # a stage's name to its progress reporter


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished adapter; `warnings` are for the user's eyes."""

    content: bytes
    digest: str
    manifest: Manifest
    warnings: tuple[str, ...]


def train_adapter(
    data: Path,
    columns: Columns,
    backbone: Backbone,
    cache: FeatureCache,
    seed: int,
    stage: Stage,
) -> Trained:
    """Train on the training rows, measure once on the test rows.

    Raises:
        InvalidData: the rows cannot be used.
        TrainingError, BackboneError: the work failed.
    """
    rows = columns.read(data)
    split = split_rows(rows, train_split=columns.train, test_split=columns.test, seed=seed)
    labels = sorted({rows.labels[index] for index in split.train})
    known = {label: number for number, label in enumerate(labels)}
    targets = np.array([known.get(label, -1) for label in rows.labels])
    used = np.concatenate([split.train, split.test])
    texts = [rows.texts[index] for index in used]
    features = compute_features(backbone, texts, FEATURE, cache, stage("features"))
    train_features, test_features = np.split(features, [len(split.train)])

    fit = fit_linear(
        train_features, targets[split.train], len(labels), seed=seed, progress=stage("fit")
    )
    manifest = Manifest(
        backbone=backbone.digest,
        feature=FEATURE,
        labels=tuple(labels),
        calibration=Calibration(temperature=fit.temperature),
        training=_describe(rows, split, targets, fit, seed),
    )
    tensors = {"head.weight": fit.weight, "head.bias": fit.bias}
    scorer = build_scorer(manifest, tensors, train_features.shape[1])
    scores = score_rows(scorer.score, test_features)
    measured = measure_scores(scores, rows, split, targets, seed, stage("measure"))
    manifest = manifest.model_copy(update={"measured": measured})
    content = build_adapter(manifest, tensors, _golden(train_features))
    warnings = _warnings(find_leaks(rows, split), fit, manifest)
    return Trained(content, hashlib.sha256(content).hexdigest(), manifest, warnings)


def _describe(
    rows: Rows, split: Split, targets: NDArray[np.int64], fit: LinearFit, seed: int
) -> Training:
    counts = np.bincount(targets[split.train])
    return Training(
        rows=len(split.train),
        rows_per_label=tuple(int(count) for count in counts),
        fingerprint=fingerprint(rows),
        seed=seed,
        settings={
            "strength": fit.strength,
            "folds": float(fit.folds),
            "out_of_fold_log_loss": fit.log_loss,
            "split": "given" if split.given else "stratified",
        },
    )


def _golden(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """A few training rows, spread over the data."""
    places = np.linspace(0, len(features) - 1, min(_GOLDEN_ROWS, len(features))).astype(int)
    golden: NDArray[np.float32] = features[places]
    return golden


def _warnings(leaks: Leaks, fit: LinearFit, manifest: Manifest) -> tuple[str, ...]:
    """What a careful person would point out before trusting the figures."""
    warnings = []
    if leaks.count:
        warnings.append(
            f"test rows that stand in the training rows too: {leaks.count}; the figures flatter: "
            f"{_quoted(leaks.examples)}"
        )
    if leaks.conflicts:
        warnings.append(
            f"training texts with different labels in different rows: {leaks.conflicts}: "
            f"{_quoted([text for text, _ in leaks.conflict_examples])}"
        )
    if not fit.converged:
        warnings.append("the solver stopped before it converged: the fit may be improved on")
    measured = manifest.measured
    if measured is not None:
        ours = measured.adapter["accuracy"].value
        better = [
            name for name, them in measured.baselines.items() if them["accuracy"].value > ours
        ]
        if better:
            warnings.append(
                f"the adapter is less accurate than: {', '.join(better)}; this backbone may not "
                "fit the domain, or the rows are too few"
            )
    return tuple(warnings)


def _quoted(examples: Sequence[str]) -> str:
    return ", ".join(f'"{example[:60]}"' for example in examples)
