"""Budget, order, failures and interruptions, with a judge of hand-made scores and its clock."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution

from tests.unit.training.experiments.support import Clock, Scripted, trial_of
from training.errors import TrainingError
from training.experiments.choice import Choice
from training.experiments.ledger import Ledger
from training.experiments.search import Limits, Search, expected_seconds
from training.experiments.space import LoraSpace, head_recipes
from training.experiments.trial import CROSS_VALIDATION, HELD_OUT, Trial, Verdict
from training.finetune.settings import LoraRecipe
from training.recipe import Recipe
from training.workshop import Stage

RECIPES = head_recipes(Recipe(), has_names=False, has_weights=False)
SPACE = LoraSpace((LoraRecipe(),), {"rate": FloatDistribution(2e-4, 2e-3, log=True)})
HEAD_LOSSES = {"centroid": 1.5, "ridge": 1.4, "knn": 2.0, "logistic": 1.2, "mlp": 1.1}


def losses(recipe: Recipe) -> Sequence[float]:
    """mlp a little better than logistic, beyond the error; LoRA the better the higher its rate."""
    loss = HEAD_LOSSES[recipe.method]
    if recipe.lora is not None:
        loss -= 100 * recipe.lora.rate
    return [loss + offset for offset in (-0.5, 0.0, 0.5)]


def search(
    judge: Scripted, ledger: Ledger, budget: float = 1000, trials: int | None = None
) -> tuple[Choice | None, Choice | None, Search]:
    found = Search(judge, ledger, Limits(budget, judge.clock, trials), lambda *_: None)
    head = found.heads(RECIPES, lora_follows=True)
    lora = None if head is None else found.lora(len(RECIPES), head.trial.recipe, SPACE)
    return head, lora, found


def states(ledger: Ledger) -> list[str]:
    return [trial.state for trial in ledger.trials]


def test_heads_by_cross_validation_then_lora_beside_the_best_of_them() -> None:
    judge, ledger = Scripted(Clock(), losses), Ledger(None, "key")
    head, lora, _ = search(judge, ledger, trials=9)
    assert head is not None
    assert head.trial.recipe.head == "mlp"
    assert [trial.judged_on for trial in ledger.trials] == [CROSS_VALIDATION] * 5 + [HELD_OUT] * 4
    assert [trial.recipe.method for trial in ledger.trials[5:]] == ["mlp"] * 4
    rates = [trial.recipe.lora.rate for trial in ledger.trials[6:] if trial.recipe.lora]
    assert rates[0] == LoraRecipe().rate
    assert lora is not None
    assert lora.trial.recipe.lora is not None
    assert lora.trial.recipe.lora.rate == max(rates)
    assert lora.trial.seeds == (0,)
    assert head.trial.seeds == (0, 1)


def test_the_budget_is_what_trials_took() -> None:
    """Ten seconds a trial of a head and half the budget: five. Then one alone, and LoRA."""
    judge, ledger = Scripted(Clock(), losses, lambda _: 10.0), Ledger(None, "key")
    search(judge, ledger, budget=105)
    assert states(ledger) == ["done"] * 10 + ["skipped"]
    assert ledger.spent == pytest.approx(100)
    assert ledger.trials[-1].reason == "takes about 10 s, and 5 s are left"
    assert judge.clock.now == pytest.approx(200)


def test_a_trial_is_stopped_when_the_time_is_spent_and_the_search_goes_on() -> None:
    """Half of 600 is for heads; 4 s are gone when mlp begins, and LoRA has the rest."""
    judge = Scripted(Clock(), losses, lambda recipe: 400 if recipe.head == "mlp" else 1.0)
    ledger = Ledger(None, "key")
    head, lora, _ = search(judge, ledger, budget=600, trials=8)
    assert states(ledger) == ["done"] * 4 + ["skipped"] + ["done"] * 4
    assert ledger.trials[4].reason == "stopped after 296 s: the time was spent"
    assert head is not None
    assert head.trial.recipe.head == "logistic"
    assert lora is not None


def test_a_trial_that_will_not_end_in_time_is_given_up_after_some_steps() -> None:
    """A trial may stop early: only what would take twice the time that is left is given up."""
    judge = Scripted(Clock(), losses, lambda recipe: 600 if recipe.head == "mlp" else 1.0)
    ledger = Ledger(None, "key")
    search(judge, ledger, budget=600, trials=8)
    assert ledger.trials[4].reason == "would take up to 600 s, and 296 s were left"
    assert ledger.trials[4].seconds == pytest.approx(60)


def test_without_time_nothing_is_done() -> None:
    judge, ledger = Scripted(Clock(), losses, lambda _: 10.0), Ledger(None, "key")
    head, lora, _ = search(judge, ledger, budget=3)
    assert (head, lora) == (None, None)
    assert states(ledger)[0] == "skipped"
    assert set(states(ledger)) == {"skipped"}


class Failing(Scripted):
    """Runs out of memory with a head of ridge, and has no number for knn."""

    def hold_out(self, recipe: Recipe, stage: Stage) -> Verdict:
        if recipe.head == "ridge":
            raise MemoryError
        if recipe.head == "knn":
            raise TrainingError("the loss is not finite")
        return super().hold_out(recipe, stage)


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl", "key")
    head, _, _ = search(Failing(Clock(), losses), ledger, trials=5)
    assert states(ledger) == ["done", "failed", "failed", "done", "done"]
    assert [trial.reason for trial in ledger.trials[1:3]] == [
        "MemoryError",
        "the loss is not finite",
    ]
    assert head is not None
    assert head.trial.recipe.head == "mlp"
    records = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert records[0] == {"search": "key"}
    assert [record["number"] for record in records[1:]] == [0, 1, 2, 3, 4]
    assert records[1]["recipe"]["head"] == "centroid"
    assert records[1]["seeds"] == [0, 1]
    assert records[1]["loss"] == 1.5
    assert records[1]["standard_error"] == pytest.approx(0.5 / 3**0.5)
    assert records[1]["seconds"] == 1.0


class Interrupted(Scripted):
    """Ctrl-C in the middle of a trial."""

    def __init__(self, clock: Clock, after: int) -> None:
        super().__init__(clock, losses)
        self.after = after

    def hold_out(self, recipe: Recipe, stage: Stage) -> Verdict:
        if len(self.judged) == self.after:
            raise KeyboardInterrupt
        return super().hold_out(recipe, stage)


@pytest.mark.parametrize("after", [0, 2, 5, 6, 9])
@pytest.mark.parametrize("torn", [False, True])
def test_an_interrupted_search_ends_as_one_that_was_not(
    after: int, torn: bool, tmp_path: Path
) -> None:
    whole = Ledger(tmp_path / "whole.jsonl", "key")
    expected = search(Scripted(Clock(), losses), whole, trials=12)[:2]
    path = tmp_path / "cut.jsonl"
    with pytest.raises(KeyboardInterrupt):
        search(Interrupted(Clock(), after), Ledger(path, "key"), trials=12)
    if torn:
        with path.open("a") as file:
            file.write('{"number": 3, "judged')
    judge = Scripted(Clock(), losses)
    cut = Ledger(path, "key")
    found = search(judge, cut, trials=12)
    assert found[:2] == expected
    assert cut.trials == whole.trials
    assert len(judge.judged) == found[2].new_trials == 12 - after
    # The bytes differ where a time has another rounding, and nowhere here.
    assert path.read_text() == (tmp_path / "whole.jsonl").read_text()


def test_a_finished_search_runs_nothing_more_and_a_larger_budget_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    judge = Scripted(Clock(), losses, lambda _: 10.0)
    first = search(judge, Ledger(path, "key"), budget=105)
    before = path.read_text()
    again = search(judge, Ledger(path, "key"), budget=105)
    assert again[:2] == first[:2]
    assert again[2].new_trials == 0
    assert path.read_text() == before
    more = search(judge, Ledger(path, "key"), budget=125)
    assert more[2].new_trials == 2
    trials = Ledger(path, "key").trials
    assert [trial.state for trial in trials] == ["done"] * 12 + ["skipped"]


def test_the_record_of_another_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    Ledger(path, "one").add(trial_of(0, [1.0, 2.0]))
    with pytest.raises(TrainingError, match=r"another search .* leave out --resume"):
        Ledger(path, "other")
    path.write_text(path.read_text() + "{}\n" + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(TrainingError, match="line 3: no trial"):
        Ledger(path, "one")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TrainingError, match="cannot be read"):
        Ledger(path, "one")


def test_a_head_is_expected_to_take_what_its_method_took_and_lora_by_epochs() -> None:
    trials: list[Trial] = [
        trial_of(0, [1.0], "mlp", seconds=50),
        trial_of(1, [1.0], "mlp", seconds=70),
        trial_of(2, [1.0], "mlp", judged_on=HELD_OUT, seconds=5),
        trial_of(3, [1.0], "mlp", judged_on=HELD_OUT, seconds=20, lora=LoraRecipe(epochs=10)),
    ]
    assert expected_seconds(Recipe(head="mlp"), CROSS_VALIDATION, trials) == 60
    assert expected_seconds(Recipe(head="mlp"), HELD_OUT, trials) == 5
    assert expected_seconds(Recipe(head="ridge"), CROSS_VALIDATION, trials) == 0
    longer = Recipe(head="mlp", lora=LoraRecipe(epochs=20, contrastive=2))
    assert expected_seconds(longer, HELD_OUT, trials) == 44
