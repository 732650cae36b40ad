"""SetFit's side: trained in an environment of its own, within a bound in minutes or to its end."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environment import programs
from benchmarks.peers.peer import Unavailable
from benchmarks.peers.process import QUIET
from headstock.demo import BACKBONE
from headstock.output import note
from training.backbones import sources

UNBOUNDED = -1  # SetFit's own default of max_steps
_PROBE_STEPS = 20
_LEAST_STEPS = 2  # the first is not timed
_REASON_LINES = 4


@dataclass(frozen=True, slots=True)
class SetFit:
    """A training of SetFit as it went, and how many steps its defaults would take.

    `step_seconds` is the mean of the steps; `seconds` is all of the training, its pairs and its
    classifier included.
    """

    accuracy: float
    seconds: float
    steps: int
    step_seconds: float
    default_steps: int

    @property
    def is_whole(self) -> bool:
        """Whether it ran to the end of its defaults."""
        return self.steps >= self.default_steps

    @property
    def whole_seconds(self) -> float:
        """The seconds of its whole default; reckoned, where it was bounded."""
        return self.seconds + max(0, self.default_steps - self.steps) * self.step_seconds


def bounded_steps(step_seconds: float, default_steps: int, minutes: float) -> int:
    """The `max_steps` of a training of about `minutes`; UNBOUNDED where all steps fit."""
    steps = max(_LEAST_STEPS, int(60 * minutes / step_seconds))
    return UNBOUNDED if steps >= default_steps else steps


def train_setfit(rows: Path, minutes: float) -> SetFit:
    """Time a few steps on other weights, then train in the time given; 0 minutes: to the end.

    Raises:
        Unavailable: SetFit cannot be installed or run here.
    """
    python = programs("setfit") / "python"
    if minutes <= 0:
        return _run(python, rows, UNBOUNDED)
    probe = _run(python, rows, _PROBE_STEPS)
    steps = bounded_steps(probe.step_seconds, probe.default_steps, minutes)
    planned = probe.default_steps if steps == UNBOUNDED else steps
    note(
        f"SetFit: {planned:,} of its {probe.default_steps:,} steps, "
        f"about {planned * probe.step_seconds:,.0f} s ..."
    )
    return _run(python, rows, steps)


def _run(python: Path, rows: Path, max_steps: int) -> SetFit:
    model = sources.resolve(BACKBONE, None).path
    script = Path(__file__).with_name("train.py")
    with tempfile.TemporaryDirectory(prefix="setfit-") as name:
        folder = Path(name)  # its checkpoints come here too
        result, log = folder / "result.json", folder / "train.log"
        arguments = (str(rows), str(model), str(result), str(max_steps))
        with log.open("wb") as output:
            done = subprocess.run(
                # Isolated: else this folder's modules would be found before SetFit's own.
                [str(python), "-I", str(script), *arguments],
                cwd=folder,
                env={**os.environ, **QUIET, "HF_HOME": str(folder / "cache")},
                stdout=output,
                stderr=output,
                check=False,
            )
        if done.returncode:
            said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise Unavailable(f"its training failed: {' '.join(said[-_REASON_LINES:])}")
        return SetFit(**json.loads(result.read_text()))
