"""Labelled rows to an adapter: read, split, featurise, fit, measure, write; top to bottom."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import build_adapter
from adapters.manifest import Calibration, Manifest, Training
from adapters.scoring import build_scorer
from backbone import Backbone
from training.data.rows import Columns, read_rows
from training.data.splits import Leaks, Split, find_leaks, split_rows
from training.evaluate import measure_adapter, score_texts
from training.examples import Examples, name_as_text, of_rows, of_tokens
from training.features import POOLED, TOKENS, Encoded, FeatureCache, Progress, encode_texts
from training.heads import METHODS, Fit, fit_head
from training.heads.folds import NO_ROW
from training.recipe import Recipe
from training.tasks import TASKS, Task

_GOLDEN_ROWS = 4
_FEW_ROWS = 20  # a label: where its name, as one row more, can make a difference

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
    recipe: Recipe,
    stage: Stage,
) -> Trained:
    """Train on the training rows, measure once on the test rows.

    Raises:
        InvalidData: the rows cannot be used.
        TrainingError, BackboneError: the work failed.
    """
    task = TASKS[recipe.task]
    rows = read_rows(data, columns, task)
    split = split_rows(
        rows, task, train_split=columns.train, test_split=columns.test, seed=recipe.seed
    )
    train_texts, targets = rows.pick(split.train)
    test_texts, _ = rows.pick(split.test)
    labels = task.labels(targets)
    names = _names(recipe, task, labels, len(targets))
    encoded = encode_texts(
        backbone,
        [*train_texts, *test_texts, *names.values()],
        task.PER_TOKEN,
        cache,
        stage("features"),
    )
    n_train, n_known = len(train_texts), len(train_texts) + len(test_texts)
    train, test = encoded.part(0, n_train), encoded.part(n_train, n_known)
    named = encoded.part(n_known, n_known + len(names))

    plain = _examples(task, train, task.encode(targets, labels, train.tokens))
    fit, with_names = _fit(recipe, task, plain, targets, labels, names, named, stage)
    manifest = Manifest(
        task=recipe.task,
        head=fit.head.head,
        backbone=backbone.digest,
        feature=TOKENS if task.PER_TOKEN else POOLED,
        labels=labels,
        calibration=_calibration(task, fit),
        thresholds=fit.thresholds,
        training=Training(
            rows=len(split.train),
            rows_per_label=task.counts(plain.y),
            fingerprint=rows.fingerprint,
            seed=recipe.seed,
            settings=_settings(recipe, fit, split, with_names),
        ),
        centroid=fit.head.centroid,
        knn=fit.head.knn,
    )
    scorer = build_scorer(manifest, fit.head.tensors, plain.x.shape[1])
    scored = score_texts(scorer.score, test_texts, test)
    measured = measure_adapter(scored, rows, split, manifest, recipe.seed, stage("measure"))
    manifest = manifest.model_copy(update={"measured": measured})
    content = build_adapter(manifest, fit.head.tensors, _golden(plain.x))
    warnings = _warnings(find_leaks(rows, split), fit, manifest)
    return Trained(content, hashlib.sha256(content).hexdigest(), manifest, warnings)


def _examples(task: Task[Any], encoded: Encoded, y: NDArray[Any]) -> Examples:
    if task.PER_TOKEN:
        return of_tokens(encoded.features, y)
    return of_rows(np.stack(encoded.features), y)


def _names(recipe: Recipe, task: Task[Any], labels: Sequence[str], n_rows: int) -> dict[str, str]:
    """Label to its name as a text, of labels that shall teach by their names."""
    is_few = n_rows < _FEW_ROWS * len(labels)
    if task.NAME != "classification" or recipe.names == "no":
        return {}
    if recipe.names == "auto" and not is_few:
        return {}
    texts = {label: name_as_text(label) for label in labels}
    return {label: text for label, text in texts.items() if text is not None}


def _fit(
    recipe: Recipe,
    task: Task[Any],
    plain: Examples,
    targets: Sequence[Any],
    labels: Sequence[str],
    names: dict[str, str],
    named: Encoded,
    stage: Stage,
) -> tuple[Fit, bool]:
    """The fit, and whether labels' names taught it: where that is open, the folds decide."""
    strata = task.strata(targets)

    def fit(examples: Examples, what: str) -> Fit:
        problem = examples.problem(task.KIND, len(labels), recipe.weights, recipe.seed)
        folds = examples.folds(strata, recipe.seed)
        return fit_head(METHODS[recipe.method], task, problem, folds, stage(what))

    if not names:
        return fit(plain, "fit"), False
    taught = plain.with_taught(
        np.stack(named.features),
        task.encode(list(names), labels, None),
        np.full(len(names), NO_ROW),
    )
    with_names = fit(taught, "fit with names")
    if recipe.names == "yes":
        return with_names, True
    without = fit(plain, "fit without")
    return (with_names, True) if with_names.loss < without.loss else (without, False)


def _calibration(task: Task[Any], fit: Fit) -> Calibration | None:
    return None if task.NAME == "regression" else Calibration(temperature=fit.temperature)


def _settings(recipe: Recipe, fit: Fit, split: Split, with_names: bool) -> dict[str, str | float]:
    """What was chosen, by whoever chose it."""
    return {
        "method": recipe.method,
        **fit.settings,
        "weights": recipe.weights,
        "label_names": "yes" if with_names else "no",
        "folds": float(fit.folds),
        "out_of_fold_loss": fit.loss,
        "split": "given" if split.given else "stratified",
    }


def _golden(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A few training vectors, spread over the data."""
    places = np.linspace(0, len(x) - 1, min(_GOLDEN_ROWS, len(x))).astype(int)
    golden: NDArray[np.float32] = x[places]
    return golden


def _warnings(leaks: Leaks, fit: Fit, manifest: Manifest) -> tuple[str, ...]:
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
            f"{_quoted(leaks.conflict_examples)}"
        )
    if not fit.head.converged:
        warnings.append("the solver stopped before it converged: the fit may be improved on")
    if better := _better_baselines(manifest):
        warnings.append(
            f"the adapter is no better than: {', '.join(better)}; this backbone may not fit the "
            "domain, or the rows are too few"
        )
    return tuple(warnings)


def _better_baselines(manifest: Manifest) -> list[str]:
    """Baselines that beat the adapter in the task's first figure, of which more is better."""
    measured = manifest.measured
    if measured is None:
        return []
    first, ours = next(iter(measured.adapter.items()))
    return [name for name, them in measured.baselines.items() if them[first].value > ours.value]


def _quoted(examples: Sequence[str]) -> str:
    return ", ".join(f'"{example[:60]}"' for example in examples)
