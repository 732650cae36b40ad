"""What is tried: recipes of heads, one by one, and settings of LoRA, proposed by earlier trials.

What the user gives stays as it is: a head, weights, names, and each setting of LoRA.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from backbone import Manifest
from training.experiments.trial import Trial
from training.finetune.model import layer_number
from training.finetune.settings import LoraRecipe
from training.heads import METHODS, MethodName
from training.recipe import ClassWeights, Names, Recipe
from training.tasks import TASKS

# From the fastest to fit to the slowest: what a short budget leaves out comes last.
_ORDER: tuple[MethodName, ...] = ("centroid", "ridge", "knn", "logistic", "mlp")
RANKS = (4, 8, 16)
EPOCHS = (5, 10, 20)
RATES = (3e-4, 5e-3)
MAX_CONTRASTIVE = 3
_STARTUP_TRIALS = 5  # of random settings, before earlier trials say where to look

optuna.logging.set_verbosity(optuna.logging.WARNING)


def head_recipes(base: Recipe, has_names: bool, has_weights: bool) -> tuple[Recipe, ...]:
    """Every recipe without LoRA, those that are fitted fastest first.

    `has_names` says that labels' names may teach, `has_weights` that balanced weights are others
    than none.
    """
    kind = TASKS[base.task].KIND
    heads = [base.head] if base.head else [each for each in _ORDER if kind in METHODS[each].KINDS]
    names: tuple[Names, ...] = ("no", "yes") if has_names else ("no",)
    if base.names != "auto":
        names = (base.names,)
    weights: tuple[ClassWeights, ...] = ("none", "balanced") if has_weights else ("none",)
    if base.weights != "none":
        weights = (base.weights,)
    given = base.model_dump(exclude={"lora"})
    return tuple(
        Recipe.model_validate({**given, "head": head, "names": name, "weights": weight})
        for head in heads
        for name in names
        for weight in weights
        if weight == "none" or METHODS[head].WEIGHTED
    )


@dataclass(frozen=True, slots=True)
class LoraSpace:
    """Settings of LoRA: `firsts` are tried first, `free` are those that may differ, by name."""

    firsts: tuple[LoraRecipe, ...]
    free: Mapping[str, BaseDistribution]

    def propose(self, history: Sequence[Trial], seed: int) -> LoraRecipe | None:
        """The settings of the next trial, given all before; None where there is nothing new.

        By a tree-structured Parzen estimator (Bergstra et al. 2011). It is made anew for each
        proposal, of the history alone: a search that was interrupted goes on as it would have.
        """
        if len(history) < len(self.firsts):
            return self.firsts[len(history)]
        if not self.free:
            return None
        chance = np.random.SeedSequence([seed, len(history)]).generate_state(1)
        sampler = optuna.samplers.TPESampler(
            seed=int(chance[0]),
            n_startup_trials=_STARTUP_TRIALS,
            multivariate=False,
            constant_liar=False,
        )
        study = optuna.create_study(sampler=sampler)
        for trial in history:
            study.add_trial(self._told(trial))
        proposed = self._with(study.ask(dict(self.free)).params)
        return None if any(trial.recipe.lora == proposed for trial in history) else proposed

    def _told(self, trial: Trial) -> optuna.trial.FrozenTrial:
        settings = trial.recipe.lora
        assert settings is not None, "the history is of trials with LoRA"
        is_done = trial.state == "done"
        return create_trial(
            state=TrialState.COMPLETE if is_done else TrialState.FAIL,
            value=trial.loss if is_done else None,
            params={name: getattr(settings, name) for name in self.free},
            distributions=dict(self.free),
        )

    def _with(self, params: Mapping[str, Any]) -> LoraRecipe:
        settings = {**self.firsts[-1].model_dump(), **params}
        return LoraRecipe.model_validate({**settings, "rate": float(f"{settings['rate']:.3g}")})


def lora_space(base: Recipe, backbone: Manifest) -> LoraSpace:
    """The LoRA that a backbone's graphs take; the backbone has one graph for it at least.

    The first settings are the fastest to train, which a short budget may have time for, and the
    usual ones.
    """
    given = base.lora or LoraRecipe()
    sites = [_as_setting(graph.sites, backbone) for graph in backbone.lora]
    n_layers = len({layer_number(site) for site in backbone.sites} - {None})
    free: dict[str, BaseDistribution] = {
        "rank": CategoricalDistribution(RANKS),
        "epochs": CategoricalDistribution(EPOCHS),
        "rate": FloatDistribution(*RATES, log=True),
    }
    if len(sites) > 1:
        free["sites"] = CategoricalDistribution(sites)
    if n_layers > 1:
        free["layers"] = CategoricalDistribution((None, n_layers // 2))
    if base.task == "classification":
        free["contrastive"] = IntDistribution(0, MAX_CONTRASTIVE)
    fixed = given.model_fields_set if base.lora else set[str]()
    free = {name: each for name, each in free.items() if name not in fixed}
    usual = given if "sites" in fixed else given.model_copy(update={"sites": sites[-1]})
    fast = {"epochs": EPOCHS[0], "sites": sites[0], "layers": n_layers // 2}
    fastest = usual.model_copy(update={name: fast[name] for name in fast if name in free})
    return LoraSpace(tuple(dict.fromkeys((fastest, usual))), free)


def _as_setting(sites: Sequence[str], backbone: Manifest) -> str:
    """What names the sites of a graph: suffixes, as in `LoraRecipe`."""
    if set(sites) == set(backbone.sites):
        return "all"
    return ",".join(dict.fromkeys(site.rpartition(".")[2] for site in sites))
