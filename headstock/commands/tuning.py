"""`headstock train --tune`: its options, and the table of its trials."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstock.output import note, show_table

if TYPE_CHECKING:
    from adapters.manifest import Finding, Measured
    from backbone import Backbone
    from training.data.rows import Columns
    from training.experiments.trial import JudgedOn, Trial
    from training.experiments.tune import Ambition, Tuned
    from training.features import FeatureCache
    from training.recipe import Recipe
    from training.train import Places
    from training.workshop import Stage

TuneOption = Annotated[
    str | None,
    typer.Option(
        "--tune",
        help="Try ways of training and take the best by the training rows. auto: heads, names, "
        "weights, then LoRA where the backbone has it; heads: without LoRA. What you give by other "
        "options stays as it is.",
        metavar="auto|heads",
        show_default=False,
    ),
]
Budget = Annotated[
    float,
    typer.Option(help="Seconds for --tune; training by what it chose comes after.", min=1),
]
MlflowUri = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        help="Log the trials of --tune and the adapter to MLflow, which must be installed.",
        metavar="URI",
        show_default=False,
    ),
]


def make_ambition(tune: str | None, budget: float, mlflow: str | None) -> "Ambition | None":
    """What to search; None for no search. Raises InvalidRecipe."""
    from training.errors import InvalidRecipe

    if tune is None:
        if mlflow is not None:
            raise InvalidRecipe("--mlflow logs the trials of --tune; give --tune auto too")
        return None
    from training.experiments.tune import Ambition  # with torch, which is slow to import

    if tune not in ("auto", "heads"):
        raise InvalidRecipe(f"--tune {tune!r} must be auto or heads")
    return Ambition(with_lora=tune == "auto", budget_s=budget)


def search(
    work: "tuple[Path, Columns, Backbone, FeatureCache]",
    base: "Recipe",
    stage: "Stage",
    places: "Places",
    ambition: "Ambition",
) -> "Tuned":
    """`tune_recipe`; after Ctrl-C it says how to go on."""
    from training.experiments.tune import tune_recipe

    try:
        return tune_recipe(*work, base, stage, places, ambition)
    except KeyboardInterrupt:
        note(f"The trials are kept in {places.run}; go on with the same command and --resume.")
        raise


def open_tracker(
    uri: str | None,
) -> "Callable[[Tuned, Path, Measured | None], tuple[Finding, ...]]":
    """Return what logs a search, to nowhere without a URI.

    What MLflow refuses is a finding, since the adapter is written by then. Raises TrainingError
    without MLflow.
    """
    if uri is None:
        return lambda *_: ()
    from training.errors import TrainingError
    from training.experiments.tracking import Mlflow
    from training.findings import make_finding

    mlflow = Mlflow(uri)

    def log(tuned: "Tuned", file: Path, measured: "Measured | None") -> "tuple[Finding, ...]":
        try:
            mlflow.log(tuned, file, measured)
        except TrainingError as error:
            return (make_finding("not-logged", str(error)[:1500]),)
        return ()

    return log


def as_json(tuned: "Tuned") -> dict[str, Any]:
    """The search for programs: all but the losses row by row."""
    return {
        "chosen": tuned.chosen,
        "why": tuned.why,
        "recipe": tuned.recipe.model_dump(mode="json"),
        "trials": [trial.model_dump(mode="json", exclude={"verdict"}) for trial in tuned.trials],
    }


def show_trials(tuned: "Tuned") -> None:
    """A table for each way of judging, best first: their losses are of different rows."""
    from training.experiments.trial import CROSS_VALIDATION, HELD_OUT

    _show(tuned, CROSS_VALIDATION, "Heads, by repeated cross-validation")
    _show(tuned, HELD_OUT, "LoRA, by training rows held out")
    for trial in tuned.trials:
        if trial.reason:
            print(f"#{trial.number} {trial.state}: {trial.reason}")
    if tuned.chosen is not None:
        print(f"Chosen: #{tuned.chosen}, {tuned.why}.")


def _show(tuned: "Tuned", judged_on: "JudgedOn", title: str) -> None:
    trials = [trial for trial in tuned.trials if trial.judged_on == judged_on]
    if not trials:
        return
    trials.sort(key=lambda each: (each.loss is None, each.loss or 0.0, each.number))
    rows = []
    for trial in trials:
        state = "chosen" if trial.number == tuned.chosen else trial.state
        score = "" if trial.loss is None else f"{trial.loss:.4f} ± {trial.standard_error or 0:.4f}"
        seconds = f"{trial.seconds:.1f}"
        rows.append((f"#{trial.number}", _head(trial), _lora(trial), score, seconds, state))
    show_table(title, ("trial", "head", "LoRA", "loss", "seconds", "state"), rows)


def _head(trial: "Trial") -> str:
    recipe = trial.recipe
    names = ", names" if recipe.names == "yes" else ""
    return f"{recipe.method}{names}" + (", balanced" if recipe.weights == "balanced" else "")


def _lora(trial: "Trial") -> str:
    lora = trial.recipe.lora
    if lora is None:
        return "none"
    layers = "" if lora.layers is None else f", last {lora.layers} layers"
    first = f", contrastive {lora.contrastive}" if lora.contrastive else ""
    size = f"rank {lora.rank}, {lora.sites}{layers}"
    return f"{size}, rate {lora.rate:.3g}, {lora.epochs} epochs{first}"
