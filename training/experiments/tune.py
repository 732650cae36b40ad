"""A search on one file of rows: from the recipe that a user gave to the one to train by."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbone import Backbone
from training.data.rows import Columns
from training.errors import InvalidRecipe
from training.experiments.judge import RowsJudge
from training.experiments.ledger import Ledger
from training.experiments.search import Limits, Search
from training.experiments.space import head_recipes, lora_space
from training.experiments.trial import Trial
from training.features import FeatureCache
from training.findings import make_finding
from training.recipe import Recipe
from training.run import Run
from training.tasks import TASKS
from training.train import Origin, Places, read_split
from training.workshop import Stage, TrainingRows, Workshop, plain_examples, usual_names

_SAME_WEIGHTS = 0.1  # about 1, which changes no fit to speak of


@dataclass(frozen=True, slots=True)
class Ambition:
    """What to search: LoRA too or heads alone, for so many seconds, and trials at most."""

    with_lora: bool = True
    budget_s: float = 600.0
    max_trials: int | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """The recipe to train by. `chosen` is its trial's number, None where no trial was done."""

    recipe: Recipe
    chosen: int | None
    why: str
    trials: tuple[Trial, ...]
    origin: Origin


def tune_recipe(
    data: Path,
    columns: Columns,
    backbone: Backbone,
    cache: FeatureCache,
    base: Recipe,
    stage: Stage,
    places: Places,
    ambition: Ambition = Ambition(),
    clock: Callable[[], float] = time.monotonic,
) -> Tuned:
    """Search, judged by the training rows alone; what `base` gives stays as it is.

    Trials are kept in the run's folder, and with `resume` not run again.

    Raises:
        InvalidData: the rows cannot be used.
        TrainingError, BackboneError: the record is of another search, or features cannot be had.
    """
    if base.mix:
        raise InvalidRecipe("mix: a search tries heads and LoRA on the last layer; leave it out")
    judge, key = _judge(data, columns, backbone, cache, base, stage, places)
    run = Run(places.run) if places.run is not None else None
    if run is not None:
        run.begin(places.resume)
    ledger = Ledger(None if run is None else run.trials, key)
    limits = Limits(ambition.budget_s, clock, ambition.max_trials)
    search = Search(judge, ledger, limits, stage("trials, s"))

    trouble = judge.lora_trouble() if ambition.with_lora else None
    lora_follows = ambition.with_lora and trouble is None
    findings = []
    if trouble is not None:
        findings.append(
            make_finding("lora-not-searched", f"LoRA was not searched: {trouble[:1500]}")
        )
    recipes = head_recipes(base, bool(judge.rows.names), _weights_differ(judge))
    chosen = search.heads(recipes, lora_follows)
    if chosen is None:
        unsearched = make_finding(
            "unsearched",
            "no trial was done within the budget: the settings are those that were given",
            budget_s=ambition.budget_s,
        )
        return Tuned(base, None, "", ledger.trials, Origin({}, (*findings, unsearched)))
    if lora_follows:
        space = lora_space(base, backbone.manifest)
        better = search.lora(len(recipes), chosen.trial.recipe, space)
        if better is None:
            findings.append(make_finding("lora-not-searched", "no trial with LoRA was done"))
        elif better.trial.recipe.lora is not None:
            chosen = better
        else:
            findings.append(
                make_finding(
                    "lora-left-out", f"LoRA was not taken: without it the loss is {better.why}"
                )
            )
    if run is not None and search.new_trials:
        run.end()  # a checkpoint of a training after an earlier choice
    done = sum(trial.state == "done" for trial in ledger.trials)
    settings = {"tuned_trials": float(done), "tuned_budget_s": ambition.budget_s}
    trial, origin = chosen.trial, Origin(settings, tuple(findings))
    return Tuned(trial.recipe, trial.number, chosen.why, ledger.trials, origin)


def _judge(
    data: Path,
    columns: Columns,
    backbone: Backbone,
    cache: FeatureCache,
    base: Recipe,
    stage: Stage,
    places: Places,
) -> tuple[RowsJudge, str]:
    """With the training rows' features, and what makes two searches the same."""
    task = TASKS[base.task]
    rows, split = read_split(data, columns, base)
    texts, targets = rows.pick(split.train)
    labels = task.labels(targets)
    names = usual_names(base, task, labels, len(targets))
    shop = Workshop(lambda: backbone, cache, base, task, stage, None, places.weights)
    encoded = shop.encode([*texts, *names.values()], "features")
    judge = RowsJudge(
        shop,
        TrainingRows(texts, targets, labels, names),
        encoded.part(0, len(texts)),
        encoded.part(len(texts), len(encoded.features)),
    )
    known = [backbone.digest, rows.fingerprint, split.train.tolist(), base.model_dump(mode="json")]
    return judge, hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _weights_differ(judge: RowsJudge) -> bool:
    """Whether balanced weights are worth a trial: labels may have about equally many rows."""
    shop, rows = judge.workshop, judge.rows
    plain = plain_examples(shop, rows, judge.encoded)
    weights = plain.problem(shop.task.KIND, len(rows.labels), "balanced", 0).weights
    return not np.allclose(weights, 1.0, rtol=0, atol=_SAME_WEIGHTS)
