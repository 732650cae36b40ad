"""The comparison with SetFit as a section of `benchmarks/RESULTS.md`."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.common import Figure, table
from benchmarks.peers.report import load_average
from benchmarks.peers.setfit.ours import Trained
from benchmarks.peers.setfit.rows import SHOTS
from benchmarks.peers.setfit.theirs import SetFit

TITLE = "SetFit"
# How many times faster than SetFit a training shall be.
FROZEN_TARGET, LORA_TARGET = 50, 5


@dataclass(frozen=True, slots=True)
class Compared:
    """One data set: Headstock's two trainings and SetFit's, or the reason why there is none."""

    name: str
    frozen: Trained
    lora: Trained
    setfit: SetFit | None
    reason: str = ""


def section(figures: Sequence[Figure], minutes: float, begun: float) -> str:
    """The section's body."""
    bound = (
        f"bounded by its own max_steps to about {minutes:g} minutes where its defaults would take "
        "longer: its accuracy is then that of the bounded training, and the seconds of its whole "
        "default are reckoned by the measured seconds of a step"
        if minutes > 0
        else "not bounded"
    )
    said = (
        f"Made by `make bench-setfit`. {SHOTS} rows of each label train, all test rows measure; "
        "both sides read one file and start from the same weights of all-MiniLM-L6-v2. SetFit "
        f"trains with its own defaults in an environment of its own, {bound}. Its seconds are "
        "those of the training alone, without imports and the loading of weights; Headstock's "
        "are those of the whole command, with no feature cached. Each was trained once. Load "
        f"average when it began and ended: {begun:.1f}, {load_average():.1f}."
    )
    return f"{said}\n\n{table(figures)}"


def figures_of(compared: Compared) -> list[Figure]:
    """The lines of one data set."""
    name = f"{compared.name}, {SHOTS} rows a label"
    lora = "`headstock train --lora`" + ("" if compared.lora.has_lora else " (LoRA left out)")
    return [
        *_theirs(name, compared),
        *_ours(f"{name}: `headstock train`", compared.frozen, compared.setfit, FROZEN_TARGET),
        *_ours(f"{name}: {lora}", compared.lora, compared.setfit, LORA_TARGET),
    ]


def _theirs(name: str, compared: Compared) -> list[Figure]:
    setfit = compared.setfit
    if setfit is None:
        return [Figure(f"{name}: SetFit", f"not measured; {compared.reason}")]
    steps = f"{setfit.steps:,} of {setfit.default_steps:,} steps of {setfit.step_seconds:.2f} s"
    lines = [
        Figure(
            f"{name}: SetFit, {steps}; accuracy on {compared.frozen.test_rows:,} test rows",
            f"{setfit.accuracy:.2%}, {setfit.seconds:,.0f} s",
        )
    ]
    if not setfit.is_whole:
        whole = f"{setfit.whole_seconds:,.0f} s, reckoned"
        lines.append(Figure(f"{name}: SetFit's whole default", whole))
    return lines


def _ours(what: str, ours: Trained, setfit: SetFit | None, target: int) -> list[Figure]:
    measured = Figure(f"{what}; accuracy", f"{ours.accuracy:.2%}, {ours.seconds:.1f} s")
    if setfit is None:
        return [measured]
    points = 100 * (ours.accuracy - setfit.accuracy)
    return [
        measured,
        Figure(f"{what}: accuracy less SetFit's", f"{points:+.2f} points", "0 or more"),
        Figure(f"{what}: times SetFit's speed", _times(ours, setfit), f"{target} x"),
    ]


def _times(ours: Trained, setfit: SetFit) -> str:
    measured = f"{setfit.seconds / ours.seconds:,.1f} x"
    if setfit.is_whole:
        return measured
    return (
        f"{measured} its bounded training; "
        f"{setfit.whole_seconds / ours.seconds:,.0f} x its whole default, reckoned"
    )
