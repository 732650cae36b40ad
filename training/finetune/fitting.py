"""Training rows to LoRA inside the backbone and a head behind it."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from adapters.lora import Lora, make_lora
from training.data.splits import hold_out
from training.examples import Examples
from training.features import Encoded
from training.finetune.settings import LoraRecipe
from training.heads import METHODS, Fit, Fold, fit_head
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

    `fit` has settings and temperature by those rows, `held`, and a head of all rows.
    """

    lora: Lora
    epochs: int
    held: NDArray[np.int64]
    fit: Fit
    notes: tuple[str, ...]


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
    plain = plain_examples(workshop, rows, behind[0])
    fitted = Fitted(
        fit=replace(probe.fit, head=head),
        counts=task.counts(plain.y),
        vectors=plain.x,
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
) -> tuple[Encoded, Encoded]:
    encoded = workshop.encode([*rows.texts, *rows.names.values()], what, lora)
    n_rows = len(rows.texts)
    return encoded.part(0, n_rows), encoded.part(n_rows, n_rows + len(rows.names))


def _flat(settings: LoraRecipe) -> dict[str, str | float]:
    """Settings as a manifest takes them."""
    return {
        f"lora_{name}": value if isinstance(value, str) else float(value)
        for name, value in settings.model_dump(exclude={"device"}).items()
        if value is not None
    }
