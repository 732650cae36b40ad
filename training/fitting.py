"""Training rows to a head on the backbone as it stands."""

from collections.abc import Sequence

from training.copies import choose_with_copies
from training.examples import Examples
from training.features import NOTHING, Encoded
from training.heads import METHODS, Chosen, choose_head, fit_chosen
from training.peft.lora import PeftLora
from training.unlabelled import about, choose_with_guesses, vectors_of
from training.workshop import (
    Fitted,
    TrainingRows,
    Workshop,
    make_problem,
    plain_examples,
    with_names,
)


def fit_frozen(
    workshop: Workshop,
    rows: TrainingRows,
    encoded: Encoded,
    named: Encoded,
    more: Encoded = NOTHING,
    given: PeftLora | None = None,
) -> Fitted:
    """A head on the frozen backbone's features; what is tried beside the rows, folds decide.

    `more` are the unlabelled texts.

    The LoRA that is `given` is as frozen: the features are those behind it.
    """
    recipe, task = workshop.recipe, workshop.task
    plain = plain_examples(workshop, rows, encoded)
    strata, groups = task.strata(rows.targets), rows.groups

    method = METHODS[recipe.method]

    def choose(examples: Examples, what: str) -> Chosen:
        folds = examples.folds(strata, groups, recipe.seed)
        problem = make_problem(workshop, rows, examples)
        return choose_head(method, task, problem, folds, workshop.stage(what))

    taught = with_names(workshop, rows, plain, named)
    examples, without = taught or plain, None
    if taught is not None and recipe.names != "yes":
        without, named_too = choose(plain, "fit"), choose(taught, "fit with names")
        if named_too.loss < without.loss:
            without = named_too
        else:
            examples = plain
    lora = None if given is None else given.lora

    def encode(texts: Sequence[str], what: str) -> Encoded:
        return workshop.encode(texts, what, lora)

    # After the names: what they tell is not to be told a second time by copies.
    chosen, tried = choose_with_copies(recipe, rows.texts, examples, without, choose, encode)
    x = vectors_of(more)
    progress = None if x is None else workshop.stage("fit with unlabelled texts")
    folds = examples.folds(strata, groups, recipe.seed)
    self_taught = choose_with_guesses(recipe.method, task, chosen, x, folds, progress)
    found = fit_chosen(method, task, self_taught.to_fit(x))
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
            **self_taught.tried,
            **about(rows.unlabelled),
            **({} if given is None else given.settings),
        },
        lora=lora,
        findings=self_taught.findings,
    )
