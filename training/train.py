"""Labelled rows to an adapter: read, split, featurise, fit, measure, write; top to bottom."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import build_adapter
from adapters.manifest import Calibration, Finding, Manifest, Training
from adapters.scoring import build_scorer
from backbone import Backbone
from training.data.names import similar_names
from training.data.rows import Columns, Rows, read_rows
from training.data.splits import EXAMPLES, Split, find_leaks, split_rows, unused_splits
from training.data.unlabelled import NONE, read_unlabelled
from training.errors import InvalidRecipe, named_counts
from training.evaluate import measure_adapter, score_texts
from training.features import LAYERS, POOLED, TOKENS, Encoded, FeatureCache
from training.findings import find_truncated, make_finding, number_rows
from training.finetune.fitting import fit_with_lora
from training.fitting import fit_frozen
from training.heads.base import GOLDEN_ROWS
from training.mix import fit_with_mix, last_layers
from training.peft.lora import PeftLora
from training.recipe import Recipe
from training.run import Run
from training.tasks import TASKS, VALUES, Task
from training.unlabelled import check_takes_unlabelled
from training.workshop import Fitted, Stage, TrainingRows, Workshop, usual_names


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished adapter."""

    content: bytes
    digest: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of a training, where there are some.

    `run` takes curves and checkpoints (and is made), with `resume` it is gone on with; `weights`
    is the torch model that the backbone was made of, where that is not found by itself.
    """

    run: Path | None = None
    resume: bool = False
    weights: Path | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a recipe comes from: settings and findings of a search, for the manifest."""

    settings: Mapping[str, str | float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """Rows that are split into those that teach and those that the result is measured on.

    `texts`: of training rows, test rows, labels' names, unlabelled ones; in this order.
    """

    rows: Rows[Any]
    split: Split
    teaching: TrainingRows
    test_texts: Sequence[str]

    @property
    def texts(self) -> list[str]:
        """All whose features are needed."""
        teaching = self.teaching
        named = teaching.names.values()
        return [*teaching.texts, *self.test_texts, *named, *teaching.unlabelled.texts]


def read_lesson(
    data: Path, columns: Columns, recipe: Recipe, unlabelled: Path | None = None
) -> Lesson:
    """Read and split the rows, and the texts of a file `unlabelled`.

    Raises:
        InvalidData, InvalidRecipe: what is there cannot be used, or not with this recipe.
    """
    task = TASKS[recipe.task]
    rows, split = read_split(data, columns, recipe)
    texts, targets = rows.pick(split.train)
    labels = task.labels(targets)
    names = usual_names(recipe, task, labels, len(targets))
    test_texts = rows.pick(split.test)[0]
    more = NONE
    if unlabelled is not None:
        check_takes_unlabelled(recipe)
        others = np.setdiff1d(np.arange(len(rows.texts)), split.train)
        others_texts = rows.pick(others)[0]
        more = read_unlabelled(unlabelled, columns.text, texts, others_texts, recipe.seed)
    return Lesson(rows, split, TrainingRows(texts, targets, labels, names, more), test_texts)


def read_split(data: Path, columns: Columns, recipe: Recipe) -> tuple[Rows[Any], Split]:
    """The rows, and which train and which test. Raises InvalidData."""
    task = TASKS[recipe.task]
    rows = read_rows(data, columns, task)
    split = split_rows(
        rows, task, train_split=columns.train, test_split=columns.test, seed=recipe.seed
    )
    return rows, split


def train_adapter(
    data: Path,
    columns: Columns,
    backbone: Backbone,
    cache: FeatureCache,
    recipe: Recipe,
    stage: Stage,
    places: Places = Places(),
    given: PeftLora | None = None,
    origin: Origin = Origin(),
    unlabelled: Path | None = None,
) -> Trained:
    """Train on the training rows, measure once on the test rows; with a `given` LoRA a head alone.

    `unlabelled` is a file of texts that may teach too.

    Raises:
        InvalidRecipe: LoRA is to be trained, and is given.
        InvalidData: the rows cannot be used.
        TrainingError, BackboneError: the work failed.
    """
    if recipe.lora is not None and given is not None:
        raise InvalidRecipe("--lora trains LoRA and --peft takes one as it is: give one of them")
    if recipe.mix and given is not None:
        raise InvalidRecipe("mix: layers are mixed of the frozen backbone, and --peft changes it")
    lesson = read_lesson(data, columns, recipe, unlabelled)
    run = Run(places.run) if places.run is not None and recipe.lora is not None else None
    if run is not None:
        run.begin(places.resume)
    task = TASKS[recipe.task]
    workshop = Workshop(lambda: backbone, cache, recipe, task, stage, run, places.weights)
    encoded = workshop.encode(lesson.texts, "features", None if given is None else given.lora)
    return train_lesson(workshop, lesson, encoded, backbone.digest, given, origin)


def train_lesson(
    workshop: Workshop,
    lesson: Lesson,
    encoded: Encoded,
    digest: str,
    given: PeftLora | None = None,
    origin: Origin = Origin(),
) -> Trained:
    """As `train_adapter`, from the features of `lesson.texts` on the backbone of this `digest`.

    Only LoRA and changed copies open the backbone itself. Raises as `train_adapter`.
    """
    recipe, task, stage, run = workshop.recipe, workshop.task, workshop.stage, workshop.run
    teaching, rows, split = lesson.teaching, lesson.rows, lesson.split
    n_train = len(teaching.texts)
    n_known = n_train + len(lesson.test_texts)
    n_named = n_known + len(teaching.names)
    train, test = encoded.part(0, n_train), encoded.part(n_train, n_known)
    named, more = encoded.part(n_known, n_named), encoded.part(n_named, len(encoded.features))

    fitted, found = None, () if given is None else given.findings
    if recipe.lora is not None:
        fitted, found = fit_with_lora(workshop, recipe.lora, teaching, train, named, more)
    if fitted is not None:
        test = workshop.encode(lesson.test_texts, "test features", fitted.lora)
    elif recipe.mix:
        fitted, found = fit_with_mix(workshop, teaching, train, named)
        test = last_layers(test) if fitted.mix is None else test
    else:
        fitted = fit_frozen(workshop, teaching, train, named, more, given)

    manifest = _manifest(recipe, digest, lesson, fitted, origin.settings)
    tensors = dict(fitted.fit.head.tensors)
    scorer = build_scorer(manifest, tensors, fitted.vectors.shape[1])
    scored = score_texts(scorer.score, lesson.test_texts, test)
    measured = measure_adapter(scored, rows, split, manifest, recipe.seed, stage("measure"))
    manifest = manifest.model_copy(update={"measured": measured})
    findings = (
        *(*origin.findings, *teaching.unlabelled.findings, *fitted.findings, *found),
        *_findings(task, lesson, fitted, manifest),
        *find_truncated({"training": train.truncated, "test": test.truncated}, train.max_length),
    )
    manifest = manifest.model_copy(update={"findings": findings})
    if fitted.lora is not None:
        tensors |= fitted.lora.tensors()
    golden = fitted.fit.head.golden
    content = build_adapter(
        manifest, tensors, golden_rows(fitted.vectors) if golden is None else golden
    )
    if run is not None:
        run.end()
    return Trained(content, hashlib.sha256(content).hexdigest(), manifest)


def _manifest(
    recipe: Recipe,
    digest: str,
    lesson: Lesson,
    fitted: Fitted,
    origin: Mapping[str, str | float],
) -> Manifest:
    """Describe all except what is measured and found."""
    task, fit, split = TASKS[recipe.task], fitted.fit, lesson.split
    labels = lesson.teaching.labels
    calibrated = task.NAME != "regression"
    return Manifest(
        task=recipe.task,
        head=fit.head.head,
        backbone=digest,
        feature=_feature(task, fitted),
        mix=fitted.mix,
        labels=labels,
        calibration=Calibration(temperature=fit.temperature) if calibrated else None,
        thresholds=fit.thresholds,
        centroid=fit.head.centroid,
        knn=fit.head.knn,
        lora=None if fitted.lora is None else fitted.lora.settings,
        training=Training(
            rows=len(split.train),
            # The last tags may have no token at all.
            rows_per_label=fitted.counts + (0,) * (len(labels) - len(fitted.counts)),
            fingerprint=lesson.rows.fingerprint,
            seed=recipe.seed,
            settings={
                "method": recipe.method,
                "weights": recipe.weights,
                "split": "given" if split.given else "stratified",
                **fitted.settings,
                **origin,
            },
        ),
    )


def _feature(task: Task[Any], fitted: Fitted) -> str:
    """The one that the head takes."""
    if fitted.mix is not None:
        return LAYERS
    return TOKENS if task.PER_TOKEN else POOLED


def golden_rows(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A few of the vectors x [m, d], spread over them: golden features [g, d]."""
    places = np.linspace(0, len(x) - 1, min(GOLDEN_ROWS, len(x))).astype(int)
    golden: NDArray[np.float32] = x[places]
    return golden


def _findings(
    task: Task[Any], lesson: Lesson, fitted: Fitted, manifest: Manifest
) -> Iterator[Finding]:
    """Point out what a careful person would look at before trusting the figures."""
    yield from _about_names(lesson)
    leaks = find_leaks(lesson.rows, lesson.split)
    if leaks.rows:
        yield make_finding(
            "leaked-test-rows",
            f"test rows that stand in the training rows too: {len(leaks.rows)} "
            f"({number_rows(leaks.rows)} of the data); the figures flatter",
            rows=len(leaks.rows),
        )
    repeated = len(lesson.teaching.texts) - len(np.unique(lesson.teaching.groups))
    if repeated:
        yield make_finding(
            "repeated-rows",
            f"training rows whose text stands in an earlier row already: {repeated:,} of "
            f"{len(lesson.teaching.texts):,}; folds keep equal texts together",
            rows=repeated,
        )
    if leaks.conflicts and task.KIND != VALUES:  # values of equal texts scatter, and may
        yield make_finding(
            "conflicting-labels",
            f"training texts with different labels in different rows: {len(leaks.conflicts)} "
            f"({number_rows(leaks.conflicts)} of the data)",
            texts=len(leaks.conflicts),
        )
    if not fitted.fit.head.converged:
        yield make_finding(
            "not-converged",
            "the solver stopped before it converged: the fit may be improved on",
        )
    if better := _better_baselines(manifest):
        yield make_finding(
            "weak-adapter",
            f"the adapter is no better than: {', '.join(better)}; this backbone may not fit the "
            "domain, or the rows are too few",
            baselines=tuple(better),
        )


def _about_names(lesson: Lesson) -> Iterator[Finding]:
    """Labels that look alike, and rows of splits that nothing uses."""
    if similar := similar_names(lesson.teaching.labels):
        groups = "; ".join(" and ".join(map(ascii, group)) for group in similar[:EXAMPLES])
        yield make_finding(
            "similar-labels",
            "labels that differ in case, Unicode form, spaces or invisible characters alone: "
            f"{groups[:1500]}; they are trained as different ones",
            groups=len(similar),
        )
    if unused := unused_splits(lesson.rows, lesson.split):
        shown = named_counts(unused.items())
        yield make_finding(
            "unused-rows",
            f"rows of other splits are not used: {shown[:1500]}",
            rows=sum(unused.values()),
        )


def _better_baselines(manifest: Manifest) -> list[str]:
    """Baselines as good as the adapter in the task's first figure, of which more is better."""
    measured = manifest.measured
    if measured is None:
        return []
    first, ours = next(iter(measured.adapter.items()))
    return [name for name, them in measured.baselines.items() if them[first].value >= ours.value]
