"""Trials and a judge of hand-made scores."""

from collections.abc import Callable, Sequence

from training.experiments.choice import mean_and_error
from training.experiments.trial import CROSS_VALIDATION, JudgedOn, Trial, Verdict
from training.finetune.settings import LoraRecipe
from training.heads import MethodName
from training.recipe import Recipe
from training.workshop import Stage

HEADS = {
    "logistic": "linear",
    "ridge": "linear",
    "centroid": "centroid",
    "knn": "knn",
    "mlp": "mlp",
}


def verdict_of(recipe: Recipe, losses: Sequence[float], lora_bytes: int = 0) -> Verdict:
    head = HEADS[recipe.method]
    return Verdict(losses=tuple(losses), head=head, head_bytes=100, lora_bytes=lora_bytes)


def trial_of(
    number: int,
    losses: Sequence[float],
    head: MethodName = "logistic",
    lora_bytes: int = 0,
    seconds: float = 1.0,
    judged_on: JudgedOn = CROSS_VALIDATION,
    lora: LoraRecipe | None = None,
) -> Trial:
    recipe = Recipe(head=head, lora=lora)
    mean, error = mean_and_error(losses)
    return Trial(
        number=number,
        judged_on=judged_on,
        recipe=recipe,
        seeds=(0, 1),
        state="done",
        seconds=seconds,
        loss=mean,
        standard_error=error,
        verdict=verdict_of(recipe, losses, lora_bytes),
    )


class Clock:
    """Stands still but for what a judge does."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """A judge that takes `seconds` in a hundred ticks, and says `losses`, both of a recipe."""

    def __init__(
        self,
        clock: Clock,
        losses: Callable[[Recipe], Sequence[float]],
        seconds: Callable[[Recipe], float] = lambda _: 1.0,
    ) -> None:
        self.clock, self.losses, self.seconds = clock, losses, seconds
        self.judged: list[Recipe] = []

    def cross_validate(self, recipe: Recipe, stage: Stage) -> Verdict:
        return self.hold_out(recipe, stage)

    def hold_out(self, recipe: Recipe, stage: Stage) -> Verdict:
        self.judged.append(recipe)
        progress = stage("work")
        for tick in range(100):
            self.clock.now += self.seconds(recipe) / 100
            progress(tick + 1, 100)
        return verdict_of(recipe, self.losses(recipe), 0 if recipe.lora is None else 1000)

    def seeds(self, recipe: Recipe) -> tuple[int, ...]:
        return recipe.seed, recipe.seed + 1
