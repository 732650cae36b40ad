"""A trial: a recipe that was tried, and what it came to."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from training.recipe import Recipe

JudgedOn = Literal["cross-validation", "held-out rows"]
CROSS_VALIDATION: JudgedOn = "cross-validation"
HELD_OUT: JudgedOn = "held-out rows"
State = Literal["done", "failed", "skipped"]
_DIGITS = 6  # of losses that are kept


class Verdict(BaseModel):
    """What a judge says of a recipe.

    `losses` are one a judged row, in an order that all trials of one kind of judgement share;
    their mean is the mean loss of the rows' vectors. `head_bytes` and `lora_bytes` are of tensors
    in the adapter file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    losses: tuple[float, ...]
    head: str
    head_bytes: int
    lora_bytes: int = 0


class Trial(BaseModel):
    """One line of the record. `reason` says why a trial failed or was skipped.

    `loss` is the mean of the verdict's losses, `standard_error` that of this mean over the rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    judged_on: JudgedOn
    recipe: Recipe
    seeds: tuple[int, ...]
    state: State
    seconds: float
    loss: float | None = None
    standard_error: float | None = None
    reason: str = ""
    verdict: Verdict | None = None


def rounded(value: float) -> float:
    """As the record keeps it, so that a choice among kept trials is the choice among fresh ones."""
    return float(f"{value:.{_DIGITS}g}")
