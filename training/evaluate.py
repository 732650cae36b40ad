"""Measuring adapters by the very code that answers requests: graph, head and answer."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import Adapter
from adapters.manifest import Finding, Manifest, Measured
from backbone import Backbone, BackboneNotFound, find_backbone, list_backbones, load_backbone
from training.data.rows import Columns, Rows, read_rows
from training.data.splits import Split, refuse_similar_splits, split_rows
from training.errors import InvalidData
from training.features import Encoded, FeatureCache, Progress, encode_texts
from training.findings import find_truncated, make_finding
from training.tasks import TASKS, Scored

Score = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # an adapter's, of one row


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The measures, and the answer to each row asked for, in the data's order.

    Asked for are the test rows where the data has a split column, else all rows. `held_out` says
    that what was measured are test rows, of the data's split or of training's own.
    """

    measured: Measured
    predictions: list[dict[str, Any]]
    held_out: bool
    findings: tuple[Finding, ...]


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
    manifest = adapter.manifest
    task = TASKS[manifest.task]
    rows = read_rows(data, columns, task)
    training = manifest.training
    known_rows = training is not None and training.fingerprint == rows.fingerprint
    seed = training.seed if training is not None else 0
    if rows.splits is None and known_rows:
        split = split_rows(rows, task, seed=seed)
    else:
        split = _given_split(rows, columns, data)
    task.check_known(rows.pick(split.test)[1], manifest.labels)
    backbone = _backbone(backbones, manifest.backbone)
    asked = split.test if split.given else np.arange(len(rows.texts))
    texts, _ = rows.pick(asked)
    encoded = encode_texts(
        backbone, texts, manifest.feature, cache, stage("features"), adapter.lora
    )
    scored = score_texts(adapter.score, texts, encoded)
    is_test = np.flatnonzero(np.isin(asked, split.test))
    measured = measure_adapter(scored.pick(is_test), rows, split, manifest, seed, stage("measure"))
    findings = [*find_truncated({"data": encoded.truncated}, encoded.max_length)]
    if len(asked) > len(split.test):
        findings.append(
            make_finding(
                "held-out-rows",
                f"the adapter was trained on these very rows: measured are the {len(split.test)} "
                f"that its training held out, not all {len(asked)}",
                rows=len(split.test),
            )
        )
    predictions = task.predictions(scored, manifest)
    return Evaluated(measured, predictions, split.given or known_rows, tuple(findings))


def score_texts(score: Score, texts: Sequence[str], encoded: Encoded) -> Scored:
    """Scores of each text, computed a row at a time as a server does."""
    return Scored(texts, [score(feature) for feature in encoded.features], encoded.tokens)


def measure_adapter(
    scored: Scored,
    rows: Rows[Any],
    split: Split,
    manifest: Manifest,
    seed: int,
    progress: Progress,
) -> Measured:
    """The test rows' scores beside the baselines'."""
    task = TASKS[manifest.task]
    test = rows.pick(split.test)
    ours = task.measure(scored, test[1], manifest, seed)
    progress(1, 2)
    baselines = task.baselines(rows.pick(split.train), test, manifest.labels, seed)
    progress(2, 2)
    return Measured(rows=len(split.test), adapter=ours, baselines=dict(baselines))


def _given_split(rows: Rows[Any], columns: Columns, data: Path) -> Split:
    """The data's own splits; all rows are test rows where it has none."""
    if rows.splits is None:
        everything = np.arange(len(rows.texts))
        return Split(train=everything[:0], test=everything, given=False)
    refuse_similar_splits(Counter(rows.splits), (columns.test,))
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
