"""Training rows to a fitted head, on the frozen backbone or with LoRA inside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adapters.lora import Lora, make_lora
from backbone import Backbone
from training.copies import choose_with_copies
from training.data.splits import hold_out
from training.examples import Examples, name_as_text, of_rows, of_tokens
from training.features import Encoded, FeatureCache, Progress, encode_texts
from training.finetune.settings import LoraRecipe
from training.heads import (
    METHODS,
    Chosen,
    Fit,
    Fold,
    Problem,
    choose_head,
    fit_chosen,
    fit_head,
)
from training.heads.folds import NO_ROW
from training.peft.lora import PeftLora
from training.recipe import Recipe
from training.run import Run
from training.tasks import Task

if TYPE_CHECKING:
    from training.finetune.tune import Labelled

_FEW_ROWS = 20  # a label: where its name, as one row more, can make a difference

Stage = Callable[[str], Progress]  # a stage's name to its progress reporter


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """What a training works with; see `training.train.Places` for the last two."""

    open_backbone: Callable[[], Backbone]  # may be slow the first time
    cache: FeatureCache
    recipe: Recipe
    task: Task[Any]
    stage: Stage
    run: Run | None = None
    weights: Path | None = None

    def encode(self, texts: Sequence[str], what: str, lora: Lora | None = None) -> Encoded:
        """Features of texts, behind a LoRA if given."""
        return encode_texts(
            self.open_backbone(), texts, self.recipe.feature, self.cache, self.stage(what), lora
        )


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRows:
    """The rows that teach. `names` are the labels' names as texts, of labels that have some."""

    texts: Sequence[str]
    targets: Sequence[Any]
    labels: tuple[str, ...]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A head with what stands before it. `vectors` [m, d] are those that it was fitted on.

    `settings` are for the manifest.
    """

    fit: Fit
    counts: tuple[int, ...]
    vectors: NDArray[np.float32]
    settings: dict[str, str | float]
    lora: Lora | None = None
    mix: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """LoRA that was stopped by rows which it did not learn from, and the head behind it.

    `fit` has settings and temperature by those rows, `held`, and a head of all rows.
    """

    lora: Lora
    epochs: int
    held: NDArray[np.int64]
    fit: Fit
    notes: tuple[str, ...]


def usual_names(
    recipe: Recipe, task: Task[Any], labels: Sequence[str], rows: int
) -> dict[str, str]:
    """Label to its name as a text, of labels that may teach by their names."""
    is_few = rows < _FEW_ROWS * len(labels)
    if task.NAME != "classification" or recipe.names == "no":
        return {}
    if recipe.names == "auto" and not is_few:
        return {}
    texts = {label: name_as_text(label) for label in labels}
    return {label: text for label, text in texts.items() if text is not None}


def fit_frozen(
    workshop: Workshop,
    rows: TrainingRows,
    encoded: Encoded,
    named: Encoded,
    given: PeftLora | None = None,
) -> Fitted:
    """A head on the frozen backbone's features; where names or copies are tried, folds decide.

    The LoRA that is `given` is as frozen: the features are those behind it.
    """
    recipe, task = workshop.recipe, workshop.task
    plain = plain_examples(workshop, rows, encoded)
    strata = task.strata(rows.targets)

    method = METHODS[recipe.method]

    def choose(examples: Examples, what: str) -> Chosen:
        folds = examples.folds(strata, recipe.seed)
        problem = make_problem(workshop, rows, examples)
        return choose_head(method, task, problem, folds, workshop.stage(what))

    taught = _with_names(workshop, rows, plain, named)
    examples, without = taught or plain, None
    if taught is not None and recipe.names != "yes":
        without, with_names = choose(plain, "fit"), choose(taught, "fit with names")
        if with_names.loss < without.loss:
            without = with_names
        else:
            examples = plain
    lora = None if given is None else given.lora

    def encode(texts: Sequence[str], what: str) -> Encoded:
        return workshop.encode(texts, what, lora)

    # After the names: what they tell is not to be told a second time by copies.
    chosen, tried = choose_with_copies(recipe, rows.texts, examples, without, choose, encode)
    found = fit_chosen(method, task, chosen)
    return Fitted(
        fit=found,
        counts=task.counts(plain.y),
        vectors=plain.x,
        settings={
            **found.settings,
            "label_names": "no" if examples is plain else "yes",
            "folds": float(found.folds),
            "out_of_fold_loss": found.loss,
            **tried,
            **({} if given is None else given.settings),
        },
        lora=lora,
    )


def fit_with_lora(
    workshop: Workshop, settings: LoraRecipe, rows: TrainingRows, encoded: Encoded, named: Encoded
) -> tuple[Fitted | None, tuple[str, ...]]:
    """LoRA and a head on the features behind it, and notes for the user; None if it does not help.

    Some rows are held out: they say when to stop, which head to fit and how sure it may be, and
    whether LoRA is worth having. Then LoRA and head are trained anew on all rows.
    """
    from training.finetune.tune import Tuner  # torch is slow to import

    task, recipe = workshop.task, workshop.recipe
    probe = probe_lora(workshop, settings, rows, encoded, named)
    frozen = taught_examples(workshop, rows, encoded, named)
    without = _fit_by(workshop, rows, frozen, probe.held)
    if probe.fit.loss >= without.loss:
        worse = (
            "LoRA did not lower the loss of the rows that were held out for it: the adapter is a "
        )
        return None, (*probe.notes, f"{worse}head on the frozen backbone")
    tuner = Tuner(workshop.open_backbone(), task, settings, recipe.seed, workshop.weights)
    tuned = tuner.train(
        _labelled(workshop, rows, frozen, np.arange(len(rows.texts))),
        None,
        len(rows.labels),
        workshop.run,
        "final",
        workshop.stage("LoRA"),
        probe.epochs,
    )
    lora = make_lora(tuned.factors)
    behind = _encode_all(workshop, rows, "features with LoRA", lora)
    examples = taught_examples(workshop, rows, *behind)
    head = METHODS[recipe.method].fit(make_problem(workshop, rows, examples), probe.fit.settings)
    fitted = Fitted(
        fit=replace(probe.fit, head=head),
        counts=task.counts(plain_examples(workshop, rows, behind[0]).y),
        vectors=plain_examples(workshop, rows, behind[0]).x,
        settings={
            **probe.fit.settings,
            "label_names": "yes" if rows.names else "no",
            "held_out_loss": probe.fit.loss,
            "held_out_loss_frozen": without.loss,
            "lora_best_epoch": float(probe.epochs),
            **_flat(settings),
        },
        lora=lora,
    )
    return fitted, (*probe.notes, *tuned.notes)


def probe_lora(
    workshop: Workshop, settings: LoraRecipe, rows: TrainingRows, encoded: Encoded, named: Encoded
) -> Probe:
    """LoRA of some of the rows, stopped by the others, and the head behind it."""
    from training.finetune.tune import Tuner  # torch is slow to import

    task, recipe = workshop.task, workshop.recipe
    tuner = Tuner(workshop.open_backbone(), task, settings, recipe.seed, workshop.weights)
    strata = task.strata(rows.targets)
    kept, held = hold_out(rows.texts, strata, settings.validation, recipe.seed)
    frozen = taught_examples(workshop, rows, encoded, named)
    tuned = tuner.train(
        _labelled(workshop, rows, frozen, kept),
        _labelled(workshop, rows, frozen, held),
        len(rows.labels),
        workshop.run,
        "probe",
        workshop.stage("LoRA, trial"),
    )
    lora = make_lora(tuned.factors)
    behind = _encode_all(workshop, rows, "features, trial", lora)
    fit = _fit_by(workshop, rows, taught_examples(workshop, rows, *behind), held)
    return Probe(lora, tuned.epochs, held, fit, tuned.notes)


def _fit_by(
    workshop: Workshop, rows: TrainingRows, examples: Examples, held: NDArray[np.int64]
) -> Fit:
    """A head whose settings and temperature are chosen by the rows `held`."""
    is_held = np.isin(examples.rows, held)
    fold = Fold(np.flatnonzero(~is_held), np.flatnonzero(is_held & examples.judged))
    problem = make_problem(workshop, rows, examples)
    return fit_head(METHODS[workshop.recipe.method], workshop.task, problem, [fold])


def _labelled(
    workshop: Workshop, rows: TrainingRows, frozen: Examples, places: NDArray[np.int64]
) -> "Labelled":
    """Some rows as a tuner takes them."""
    from training.finetune.tune import Labelled

    vectors = np.concatenate([np.flatnonzero(frozen.rows == place) for place in places])
    return Labelled(
        [rows.texts[place] for place in places],
        frozen.y[vectors],
        make_problem(workshop, rows, frozen).weights[vectors],
        frozen.x[vectors],
    )


def _encode_all(
    workshop: Workshop, rows: TrainingRows, what: str, lora: Lora
) -> tuple[Encoded, Encoded]:
    encoded = workshop.encode([*rows.texts, *rows.names.values()], what, lora)
    n_rows = len(rows.texts)
    return encoded.part(0, n_rows), encoded.part(n_rows, n_rows + len(rows.names))


def plain_examples(workshop: Workshop, rows: TrainingRows, encoded: Encoded) -> Examples:
    """The rows' vectors."""
    y = workshop.task.encode(rows.targets, rows.labels, encoded.tokens)
    if workshop.task.PER_TOKEN:
        return of_tokens(encoded.features, y)
    return of_rows(np.stack(encoded.features), y)


def _with_names(
    workshop: Workshop, rows: TrainingRows, plain: Examples, named: Encoded
) -> Examples | None:
    if not rows.names:
        return None
    y = workshop.task.encode(list(rows.names), rows.labels, None)
    return plain.with_taught(np.stack(named.features), y, np.full(len(y), NO_ROW))


def taught_examples(
    workshop: Workshop, rows: TrainingRows, encoded: Encoded, named: Encoded
) -> Examples:
    """The rows' vectors, and those of the names that teach."""
    plain = plain_examples(workshop, rows, encoded)
    return _with_names(workshop, rows, plain, named) or plain


def make_problem(workshop: Workshop, rows: TrainingRows, examples: Examples) -> Problem:
    """What a method fits, with the weights that the recipe asks for."""
    recipe = workshop.recipe
    return examples.problem(workshop.task.KIND, len(rows.labels), recipe.weights, recipe.seed)


def _flat(settings: LoraRecipe) -> dict[str, str | float]:
    """Settings as a manifest takes them."""
    return {
        f"lora_{name}": value if isinstance(value, str) else float(value)
        for name, value in settings.model_dump(exclude={"device"}).items()
        if value is not None
    }
