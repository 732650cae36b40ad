"""The search: heads first, then LoRA with the best of them, while the budget lasts.

Time is what recorded trials took, so that a search which was interrupted is where it was.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from adapters.errors import HeadstockError
from backbone.errors import BackboneError
from training.errors import TrainingError
from training.experiments.choice import Choice, choose, mean_and_error
from training.experiments.ledger import Ledger
from training.experiments.space import LoraSpace
from training.experiments.trial import (
    CROSS_VALIDATION,
    HELD_OUT,
    JudgedOn,
    Trial,
    Verdict,
)
from training.features import Progress
from training.recipe import Recipe
from training.workshop import Stage

# Of the budget, where LoRA is searched too: the slowest heads shall not take all of it.
_HEADS_SHARE = 0.5
_SOME_STEPS = 10  # after which the time that a trial will take can be told
_PATIENCE = 2.0  # since a trial may stop before its last step
# Of a trial; what is wrong with all trials shows in the training that follows.
_FAILURES = (HeadstockError, BackboneError, MemoryError, ArithmeticError, RuntimeError, ValueError)


class Judge(Protocol):
    """Says how good recipes are; see `training.experiments.judge`."""

    def cross_validate(self, recipe: Recipe, stage: Stage) -> Verdict:
        """By all training rows, of a recipe without LoRA."""
        ...

    def hold_out(self, recipe: Recipe, stage: Stage) -> Verdict:
        """By training rows that are held out."""
        ...

    def seeds(self, recipe: Recipe) -> tuple[int, ...]:
        """The seeds of cross-validation."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to search: seconds, by a clock, or a number of trials."""

    budget_s: float
    clock: Callable[[], float]
    max_trials: int | None = None


class _OutOfTime(TrainingError):
    """The trial does not fit into the budget."""


class Search:
    """One search. Trials that the ledger has are not run again; skipped ones, where they fit now.

    `report` is told seconds spent and the budget. Deterministic but for what the clock says.
    """

    def __init__(self, judge: Judge, ledger: Ledger, limits: Limits, report: Progress) -> None:
        self._judge = judge
        self._ledger = ledger
        self._limits = limits
        self._report = report
        self.new_trials = 0

    def heads(self, recipes: Sequence[Recipe], lora_follows: bool) -> Choice | None:
        """The head to take, by cross-validation; None where no trial was done."""
        share = _HEADS_SHARE if lora_follows else 1.0
        for number, recipe in enumerate(recipes):
            self._try(number, CROSS_VALIDATION, recipe, share * self._limits.budget_s)
        return choose(self._ledger.judged_on(CROSS_VALIDATION))

    def lora(self, number: int, frozen: Recipe, space: LoraSpace) -> Choice | None:
        """What to take of LoRA and that head alone, by rows held out from both.

        Trials begin with `number`, the head alone. None where no trial with LoRA was done.
        """
        alone = self._try(number, HELD_OUT, frozen, self._limits.budget_s)
        if alone is None or alone.state != "done":
            return None
        history: list[Trial] = []
        while settings := space.propose(history, frozen.seed):
            recipe = frozen.model_copy(update={"lora": settings})
            place = number + 1 + len(history)
            trial = self._try(place, HELD_OUT, recipe, self._limits.budget_s)
            if trial is None or trial.state == "skipped":
                break
            history.append(trial)
        if not any(trial.state == "done" for trial in history):
            return None
        return choose([alone, *history])

    def _try(
        self, number: int, judged_on: JudgedOn, recipe: Recipe, until_s: float
    ) -> Trial | None:
        """A trial, new or from the ledger; None where there may be no more."""
        known = self._ledger.get(number)
        if known is not None and known.recipe != recipe:
            known = None  # another head was the best then
        if known is not None and known.state != "skipped":
            return known
        begun = sum(trial.state != "skipped" for trial in self._ledger.trials)
        if self._limits.max_trials is not None and begun >= self._limits.max_trials:
            return None
        left = until_s - self._ledger.spent
        expected = expected_seconds(recipe, judged_on, self._ledger.trials)
        if left > expected:
            trial = self._run(number, judged_on, recipe, left)
        elif known is not None:
            return known
        else:
            reason = f"takes about {expected:.0f} s, and {max(0.0, left):.0f} s are left"
            if expected == 0:
                reason = "the time was spent"
            trial = self._trial(number, judged_on, recipe, state="skipped", reason=reason)
        self._ledger.add(trial)
        return trial

    def _run(self, number: int, judged_on: JudgedOn, recipe: Recipe, left: float) -> Trial:
        self.new_trials += 1
        watch = _Watch(self._limits, left, self._ledger.spent, self._report)
        judge = (
            self._judge.cross_validate if judged_on == CROSS_VALIDATION else self._judge.hold_out
        )
        given: dict[str, object]
        try:
            verdict = judge(recipe, watch.stage)
            loss, error = mean_and_error(verdict.losses)
            given = {"state": "done", "loss": loss, "verdict": verdict}
            given["standard_error"] = error if math.isfinite(error) else None
        except _OutOfTime as error:
            given = {"state": "skipped", "reason": str(error)}
        except _FAILURES as error:
            given = {"state": "failed", "reason": str(error) or type(error).__name__}
        return self._trial(number, judged_on, recipe, seconds=round(watch.elapsed(), 3), **given)

    def _trial(
        self,
        number: int,
        judged_on: JudgedOn,
        recipe: Recipe,
        seconds: float = 0.0,
        **given: object,
    ) -> Trial:
        seeds = self._judge.seeds(recipe) if judged_on == CROSS_VALIDATION else (recipe.seed,)
        return Trial.model_validate(
            {
                "number": number,
                "judged_on": judged_on,
                "recipe": recipe,
                "seeds": seeds,
                "seconds": seconds,
                **given,
            }
        )


def expected_seconds(recipe: Recipe, judged_on: JudgedOn, trials: Sequence[Trial]) -> float:
    """How long a trial may take, by those that are done; 0 where they say nothing.

    A head takes what the method took; LoRA what it took an epoch.
    """
    alike = [
        trial
        for trial in trials
        if trial.state == "done"
        and trial.judged_on == judged_on
        and trial.recipe.method == recipe.method
        and (trial.recipe.lora is None) == (recipe.lora is None)
    ]
    if not alike:
        return 0.0
    return _epochs(recipe) * float(np.mean([each.seconds / _epochs(each.recipe) for each in alike]))


def _epochs(recipe: Recipe) -> int:
    return 1 if recipe.lora is None else recipe.lora.epochs + recipe.lora.contrastive


class _Watch:
    """Ends a trial that runs out of time, or will for certain. Raises from the trial's progress."""

    def __init__(self, limits: Limits, left: float, spent: float, report: Progress) -> None:
        self._clock, self._began = limits.clock, limits.clock()
        self._left, self._spent, self._budget = left, spent, limits.budget_s
        self._report = report

    def elapsed(self) -> float:
        """Seconds since the trial began."""
        return self._clock() - self._began

    def stage(self, _: str) -> Progress:
        """For a stage of the trial."""
        began = self.elapsed()

        def report(done: int, total: int) -> None:
            now = self.elapsed()
            self._report(round(min(self._spent + now, self._budget)), round(self._budget))
            if now >= self._left:
                raise _OutOfTime(f"stopped after {now:.0f} s: the time was spent")
            if done >= _SOME_STEPS:
                expected = began + (now - began) * total / done
                if expected > _PATIENCE * self._left:
                    raise _OutOfTime(
                        f"would take up to {expected:.0f} s, and {self._left:.0f} s were left"
                    )

        return report
