"""Which trial is taken: the simplest within one standard error of the best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.experiments.trial import Trial, Verdict

# By what a head costs where it serves: one product a row; two; a look at every stored row.
_KINDS = ("linear", "centroid"), ("mlp",), ("knn",)


@dataclass(frozen=True, slots=True)
class Choice:
    """A trial and why it is taken."""

    trial: Trial
    why: str


def choose(trials: Sequence[Trial]) -> Choice | None:
    """The choice among trials that were judged on the same rows; None where none is done.

    The rule of one standard error (Breiman et al. 1984), the error being that of the mean
    difference to the best, row by row: trials that err on the same rows differ by less than the
    errors of their means say. Of equally simple ones, the least loss.
    """
    done = [trial for trial in trials if trial.state == "done"]
    if not done:
        return None
    best = min(done, key=_loss)
    near = [trial for trial in done if trial is best or _is_near(trial, best)]
    chosen = min(near, key=lambda trial: (simplicity(_verdict(trial)), _loss(trial)))
    if chosen is best:
        return Choice(best, "the least loss")
    mean, error = paired_difference(_verdict(chosen), _verdict(best))
    return Choice(
        chosen,
        f"within one standard error of #{best.number} ({mean:.3g} above it, ± {error:.2g}), "
        "and simpler",
    )


def simplicity(verdict: Verdict) -> tuple[int, int]:
    """The order of simplicity, simplest first; the only place that knows it.

    No LoRA before LoRA, then fewer bytes of LoRA (fewer sites, a smaller rank); then the kind of
    head, by its cost where it serves. What changes only how weights are found (the solver, names,
    class weights, rates, epochs) makes no adapter simpler.
    """
    kind = next(place for place, heads in enumerate(_KINDS) if verdict.head in heads)
    return verdict.lora_bytes, kind


def paired_difference(ours: Verdict, theirs: Verdict) -> tuple[float, float]:
    """The mean of the rows' differences in loss, and its standard error."""
    return mean_and_error(np.subtract(ours.losses, theirs.losses).tolist())


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """A mean with its standard error; of one value the error is infinite."""
    if len(values) < 2:
        return float(np.mean(values)), float("inf")
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _is_near(trial: Trial, best: Trial) -> bool:
    mean, error = paired_difference(_verdict(trial), _verdict(best))
    return mean <= error


def _verdict(trial: Trial) -> Verdict:
    assert trial.verdict is not None, "a trial that is done has a verdict"
    return trial.verdict


def _loss(trial: Trial) -> tuple[float, int]:
    """Of equal losses, the earlier trial."""
    assert trial.loss is not None, "a trial that is done has a loss"
    return trial.loss, trial.number
