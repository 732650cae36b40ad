"""Training rows to LoRA inside the backbone and a head behind it."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from adapters.lora import Lora, make_lora
from adapters.manifest import Finding
from training.data.splits import hold_out
from training.examples import Examples
from training.features import NOTHING, Encoded
from training.findings import make_finding
from training.finetune.prototypes import as_head, judge_prototypes
from training.finetune.settings import LoraRecipe
from training.heads import METHODS, Fit, Fold, choose_head, fit_chosen
from training.unlabelled import SelfTaught, about, choose_with_guesses, vectors_of
from training.workshop import (
    Fitted,
    TrainingRows,
    Workshop,
    make_problem,
    plain_examples,
    taught_examples,
)

if TYPE_CHECKING:
    from training.finetune.tune import Labelled


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """LoRA that was stopped by rows which it did not learn from, and the head behind it.

    `fit` has settings and temperature by those rows, `held`, and a head: of all rows, for which
    `taught` says whether unlabelled texts taught too; or with `own_head` the prototypes that LoRA
    was trained beside.
    """

    lora: Lora
    epochs: int
    held: NDArray[np.int64]
    fit: Fit
    taught: SelfTaught
    own_head: bool
    findings: tuple[Finding, ...]


def fit_with_lora(
    workshop: Workshop,
    settings: LoraRecipe,
    rows: TrainingRows,
    encoded: Encoded,
    named: Encoded,
    more: Encoded = NOTHING,
) -> tuple[Fitted | None, tuple[Finding, ...]]:
    """Train LoRA and a head on the features behind it; None if it does not help.

    Some rows are held out: they say when to stop, which head to fit and how sure it may be, and
    whether LoRA is worth having. Then LoRA and head are trained anew on all rows.
    """
    from training.finetune.tune import Tuner  # torch is slow to import

    task, recipe = workshop.task, workshop.recipe
    probe = probe_lora(workshop, settings, rows, encoded, named)
    frozen = taught_examples(workshop, rows, encoded, named)
    without = _choose_by(workshop, rows, frozen, probe.held, more).chosen.loss
    if probe.fit.loss >= without:
        left_out = make_finding(
            "lora-left-out",
            "LoRA did not lower the loss of the rows that were held out for it: the adapter is a "
            "head on the frozen backbone",
            loss_with=probe.fit.loss,
            loss_without=without,
        )
        return None, (*probe.findings, left_out)
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
    behind, named_behind, more_behind = _encode_all(workshop, rows, "features with LoRA", lora)
    if probe.own_head and tuned.prototypes is not None:
        head = as_head(tuned.prototypes)
    else:
        problem = make_problem(
            workshop, rows, taught_examples(workshop, rows, behind, named_behind)
        )
        problem = probe.taught.to_learn(problem, vectors_of(more_behind))
        head = METHODS[recipe.method].fit(problem, probe.fit.settings)
    plain = plain_examples(workshop, rows, behind)
    fitted = Fitted(
        fit=replace(probe.fit, head=head),
        counts=task.counts(plain.y),
        vectors=plain.x,
        settings={
            **probe.fit.settings,
            "label_names": "yes" if rows.names else "no",
            "held_out_loss": probe.fit.loss,
            "held_out_loss_frozen": without,
            "lora_best_epoch": float(probe.epochs),
            **probe.taught.tried,
            **about(rows.unlabelled),
            **_flat(settings),
        },
        lora=lora,
        findings=probe.taught.findings,
    )
    return fitted, (*probe.findings, *tuned.findings)


def probe_lora(
    workshop: Workshop,
    settings: LoraRecipe,
    rows: TrainingRows,
    encoded: Encoded,
    named: Encoded,
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
    behind, named_behind, more_behind = _encode_all(workshop, rows, "features, trial", lora)
    examples = taught_examples(workshop, rows, behind, named_behind)
    taught = _choose_by(workshop, rows, examples, held, more_behind)
    fit = fit_chosen(METHODS[recipe.method], task, taught.to_fit(vectors_of(more_behind)))
    own_head = False
    if recipe.head is None and tuned.prototypes is not None and not task.PER_TOKEN:
        problem, fold = make_problem(workshop, rows, examples), _fold(examples, held)
        own = judge_prototypes(tuned.prototypes, task, problem, fold)
        own_head = own.loss < fit.loss
        if own_head:
            fit, taught = own, taught.left_out()
    return Probe(lora, tuned.epochs, held, fit, taught, own_head, tuned.findings)


def _choose_by(
    workshop: Workshop,
    rows: TrainingRows,
    examples: Examples,
    held: NDArray[np.int64],
    more: Encoded,
) -> SelfTaught:
    """A head's settings and temperature, and whether unlabelled texts teach, by the rows `held`."""
    fold = _fold(examples, held)
    problem = make_problem(workshop, rows, examples)
    method = workshop.recipe.method
    chosen = choose_head(METHODS[method], workshop.task, problem, [fold])
    return choose_with_guesses(method, workshop.task, chosen, vectors_of(more), [fold])


def _fold(examples: Examples, held: NDArray[np.int64]) -> Fold:
    """The rows `held`, and all else."""
    is_held = np.isin(examples.rows, held)
    return Fold(np.flatnonzero(~is_held), np.flatnonzero(is_held & examples.judged))


def _labelled(
    workshop: Workshop, rows: TrainingRows, frozen: Examples, places: NDArray[np.int64]
) -> "Labelled":
    """Some rows, in ascending order, as a tuner takes them."""
    from training.finetune.tune import Labelled

    vectors = np.flatnonzero(np.isin(frozen.rows, places))
    return Labelled(
        [rows.texts[place] for place in places],
        frozen.y[vectors],
        make_problem(workshop, rows, frozen).weights[vectors],
        frozen.x[vectors],
    )


def _encode_all(
    workshop: Workshop, rows: TrainingRows, what: str, lora: Lora
) -> tuple[Encoded, Encoded, Encoded]:
    """Rows, labels' names and unlabelled texts behind the LoRA."""
    unlabelled = rows.unlabelled.texts
    encoded = workshop.encode([*rows.texts, *rows.names.values(), *unlabelled], what, lora)
    n_rows = len(rows.texts)
    n_named = n_rows + len(rows.names)
    return (
        encoded.part(0, n_rows),
        encoded.part(n_rows, n_named),
        encoded.part(n_named, n_named + len(unlabelled)),
    )


def _flat(settings: LoraRecipe) -> dict[str, str | float]:
    """Settings as a manifest takes them."""
    return {
        f"lora_{name}": value if isinstance(value, str) else float(value)
        for name, value in settings.model_dump(exclude={"device"}).items()
        if value is not None
    }
