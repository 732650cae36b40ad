from types import SimpleNamespace
from typing import Any, cast

import pytest

from backbone import Manifest
from tests.unit.training.experiments.support import trial_of
from training.experiments.space import LoraSpace, head_recipes, lora_space
from training.experiments.trial import HELD_OUT, Trial
from training.finetune.settings import LoraRecipe
from training.recipe import Recipe, make_recipe

SITES = tuple(f"layer.{n}.{name}" for n in range(6) for name in ("query", "value", "up"))
PAIR = tuple(site for site in SITES if not site.endswith("up"))


def backbone(*graphs: tuple[str, ...], sites: tuple[str, ...] = SITES) -> Manifest:
    """What a space looks at of a manifest."""
    lora = tuple(SimpleNamespace(sites=graph) for graph in graphs)
    return cast(Manifest, SimpleNamespace(sites=dict.fromkeys(sites), lora=lora))


def described(recipes: tuple[Recipe, ...]) -> list[tuple[str, str, str]]:
    return [(recipe.method, recipe.names, recipe.weights) for recipe in recipes]


def test_every_head_of_a_task_with_what_it_takes() -> None:
    found = described(head_recipes(Recipe(), has_names=True, has_weights=True))
    assert len(found) == len(set(found)) == 2 * (4 * 2 + 1)  # knn takes no weights
    assert ("knn", "yes", "none") in found
    assert ("knn", "yes", "balanced") not in found
    assert [each[0] for each in found[:4]] == ["centroid"] * 4
    assert found[-1] == ("mlp", "yes", "balanced")


@pytest.mark.parametrize(
    ("task", "heads"),
    [
        ("classification", ["centroid", "ridge", "knn", "logistic", "mlp"]),
        ("tagging", ["centroid", "ridge", "knn", "logistic", "mlp"]),
        ("multilabel", ["ridge", "logistic", "mlp"]),
        ("regression", ["ridge", "mlp"]),
    ],
)
def test_the_heads_of_each_task(task: Any, heads: list[str]) -> None:
    found = head_recipes(Recipe(task=task), has_names=False, has_weights=False)
    assert [recipe.method for recipe in found] == heads


def test_what_is_given_stays() -> None:
    base = Recipe(head="mlp", weights="balanced", names="yes", seed=7, lora=LoraRecipe())
    (only,) = head_recipes(base, has_names=True, has_weights=True)
    assert only == base.model_copy(update={"lora": None})
    balanced = head_recipes(Recipe(weights="balanced"), has_names=False, has_weights=True)
    assert {recipe.weights for recipe in balanced} == {"balanced"}
    assert "knn" not in {recipe.method for recipe in balanced}


def test_lora_takes_what_the_graphs_take() -> None:
    space = lora_space(Recipe(), backbone(PAIR, SITES))
    assert set(space.free) == {"rank", "epochs", "rate", "sites", "layers", "contrastive"}
    assert choices(space, "sites") == ("query,value", "all")
    assert choices(space, "layers") == (None, 3)
    fastest = LoraRecipe(sites="query,value", layers=3, epochs=5)
    assert space.firsts == (fastest, LoraRecipe(sites="all"))
    narrow = lora_space(Recipe(task="tagging"), backbone(PAIR))
    assert set(narrow.free) == {"rank", "epochs", "rate", "layers"}
    assert {settings.sites for settings in narrow.firsts} == {"query,value"}
    assert "layers" not in lora_space(Recipe(), backbone(SITES[:3], sites=SITES[:3])).free


def test_settings_of_lora_that_are_given_stay() -> None:
    base = make_recipe({}, ["lora.rank=2", "lora.sites=query", "lora.epochs=3"])
    space = lora_space(base, backbone(PAIR, SITES))
    assert set(space.free) == {"rate", "layers", "contrastive"}
    history: list[Trial] = []
    for _ in range(8):
        settings = space.propose(history, 0)
        assert settings is not None
        assert (settings.rank, settings.sites, settings.epochs) == (2, "query", 3)
        history.append(judged(settings, len(history)))


def test_proposals_follow_from_the_history_alone() -> None:
    space = lora_space(Recipe(), backbone(PAIR, SITES))
    first, again = walk(space, 12), walk(space, 12)
    assert first == again
    assert tuple(first[:2]) == space.firsts
    assert len(set(first)) == 12
    assert {settings.rank for settings in first} == {4, 8, 16}
    assert all(3e-4 <= settings.rate <= 5e-3 for settings in first)
    assert walk(space, 12, seed=1)[2:] != first[2:]


def test_proposals_gather_where_losses_are_low() -> None:
    space = lora_space(Recipe(), backbone(PAIR, SITES))
    late = walk(space, 40)[20:]
    share = sum(settings.sites == "all" for settings in late) / len(late)
    assert share > 0.7  # an even chance without the history


def test_trials_that_failed_are_told_and_nothing_is_proposed_twice() -> None:
    space = lora_space(Recipe(), backbone(PAIR, SITES))
    failed = [
        judged(settings, number).model_copy(update={"state": "failed", "loss": None})
        for number, settings in enumerate(space.firsts)
    ]
    assert space.propose(failed, 0) not in (None, *space.firsts)
    fixed = LoraSpace(space.firsts[:1], {})
    assert fixed.propose([], 0) == space.firsts[0]
    assert fixed.propose(failed[:1], 0) is None


def walk(space: LoraSpace, trials: int, seed: int = 0) -> list[LoraRecipe]:
    history: list[Trial] = []
    for number in range(trials):
        settings = space.propose(history, seed)
        assert settings is not None
        history.append(judged(settings, number))
    return [trial.recipe.lora for trial in history if trial.recipe.lora is not None]


def judged(settings: LoraRecipe, number: int) -> Trial:
    """Sites of all are good, few are bad."""
    loss = 1.0 if settings.sites == "all" else 2.0
    return trial_of(number, (loss, loss + 0.01 * number), judged_on=HELD_OUT, lora=settings)


def choices(space: LoraSpace, name: str) -> tuple[Any, ...]:
    return cast(Any, space.free[name]).choices  # type: ignore[no-any-return]  # as its class has it
