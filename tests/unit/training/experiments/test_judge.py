"""Verdicts by hand: losses of each row, in the units that all trials share."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters.manifest import TaskName
from backbone import Backbone
from tests.tiny import make_tiny_backbone
from training.data.splits import hold_out
from training.experiments.judge import JUDGED_SHARE, RowsJudge, by_row
from training.features import FeatureCache, Progress
from training.fitting import fit_frozen
from training.heads import METHODS, fit_head
from training.recipe import Recipe
from training.tasks import TASKS
from training.workshop import TrainingRows, Workshop, make_problem, plain_examples


def quiet(_: str) -> Progress:
    return lambda *_: None


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return make_tiny_backbone(tmp_path_factory.mktemp("home") / "backbones")


def judge_of(backbone: Backbone, cache: Path, base: Recipe) -> RowsJudge:
    """Twenty rows of letters, ten of digits; a value is the number of its row."""
    texts = [f"{'12345' if n % 3 == 0 else 'aeiou'}{n}{'!' * (n % 5)}" for n in range(30)]
    targets: list[object] = ["digits" if n % 3 == 0 else "letters" for n in range(30)]
    if base.task == "regression":
        targets = [(("n", float(n)),) for n in range(30)]
    task = TASKS[base.task]
    shop = Workshop(lambda: backbone, FeatureCache(cache), base, task, quiet)
    rows = TrainingRows(texts, targets, task.labels(targets), {})
    encoded = shop.encode(texts, "features")
    return RowsJudge(shop, rows, encoded, encoded.part(0, 0))


def test_a_rows_losses_are_its_share_of_the_mean() -> None:
    losses = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(by_row(losses, np.array([5, 2, 2, 5])), [5 / 2, 5 / 2])
    # Two of row 1, one of row 0 and row 7: the mean is 2.5, whichever way.
    found = by_row(losses, np.array([1, 1, 0, 7]))
    np.testing.assert_allclose(found, [3 * 3 / 4, 3 * 3 / 4, 4 * 3 / 4])
    assert found.mean() == losses.mean()


def test_cross_validation_is_the_mean_of_repeats_on_each_row(
    backbone: Backbone, tmp_path: Path
) -> None:
    judge = judge_of(backbone, tmp_path / "cache", Recipe())
    recipe = Recipe(head="ridge", names="no", seed=4)
    verdict = judge.cross_validate(recipe, quiet)
    shop = replace(judge.workshop, recipe=recipe)
    examples = plain_examples(shop, judge.rows, judge.encoded)
    problem = make_problem(shop, judge.rows, examples)
    strata = shop.task.strata(judge.rows.targets)
    fits = [
        fit_head(
            METHODS["ridge"], shop.task, problem, examples.folds(strata, judge.rows.groups, seed)
        )
        for seed in (4, 5)
    ]
    expected = (fits[0].losses + fits[1].losses) / 2
    np.testing.assert_allclose(verdict.losses, expected, rtol=1e-5)
    assert np.abs(fits[0].losses - fits[1].losses).max() > 1e-3
    assert (verdict.head, verdict.lora_bytes) == ("linear", 0)
    assert verdict.head_bytes == (2 * 8 + 2) * 4


def test_weights_of_a_trial_teach_and_weights_that_are_given_judge(
    backbone: Backbone, tmp_path: Path
) -> None:
    plain = judge_of(backbone, tmp_path / "cache", Recipe())
    balanced = judge_of(backbone, tmp_path / "cache", Recipe(weights="balanced"))
    recipe = Recipe(head="centroid", names="no", weights="balanced")
    losses = plain.cross_validate(recipe, quiet).losses
    weighted = balanced.cross_validate(recipe, quiet).losses
    weights = [1.5 if n % 3 == 0 else 0.75 for n in range(30)]
    np.testing.assert_allclose(weighted, np.multiply(losses, weights), rtol=1e-5)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_held_out_rows_are_judged_by_a_head_that_has_not_seen_them(
    task: TaskName, backbone: Backbone, tmp_path: Path
) -> None:
    judge = judge_of(backbone, tmp_path / "cache", Recipe(task=task))
    recipe = Recipe(task=task, head="ridge", names="no")
    verdict = judge.hold_out(recipe, quiet)
    shop, rows = replace(judge.workshop, recipe=recipe), judge.rows
    kept, held = hold_out(rows.texts, shop.task.strata(rows.targets), JUDGED_SHARE, 0)
    texts, targets = ([column[n] for n in kept] for column in (rows.texts, rows.targets))
    taught = replace(rows, texts=texts, targets=targets)
    fit = fit_frozen(shop, taught, judge.encoded.pick(kept), judge.named).fit
    x = np.stack(judge.encoded.pick(held).features)
    raw = x @ fit.head.tensors["head.weight"].T + fit.head.tensors["head.bias"]
    y = shop.task.encode([rows.targets[n] for n in held], rows.labels, None)
    expected = shop.task.losses(raw.astype(np.float64), y, fit.temperature)
    np.testing.assert_allclose(verdict.losses, expected, rtol=1e-4, atol=1e-6)
    assert len(verdict.losses) == judge.held_out_rows(recipe)
    assert judge.lora_trouble() is not None
