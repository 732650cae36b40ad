"""Training and validation curves: JSON lines, written as they happen; keys: OPERATIONS.md."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeGuard

from training.errors import TrainingError

MAX_STEPS = 200  # records of steps in a phase: a curve's width, whatever the training's length
_MAX_BYTES = 64 * 2**20  # a file of curves has a few hundred records
_LARGEST = 1e100  # what is beyond is no loss, and overflows where it is drawn
_WHERE = (
    "a training with --lora writes curves into its run folder, beside its output or where --run "
    "says"
)
_PHASES = ("probe", "final")  # in the order in which they are trained


class StepRecord(TypedDict):
    """A step of training, one of at most `MAX_STEPS` that are spread over a phase."""

    kind: Literal["step"]
    stage: str
    epoch: int
    step: int
    rate: float
    objective: float


class EpochRecord(TypedDict):
    """The end of an epoch."""

    kind: Literal["epoch"]
    stage: str
    epoch: int
    step: int
    rate: float
    objective: float
    train_loss: float | None
    validation_loss: float | None
    gap: float | None
    metric: str
    train_metric: float | None
    validation_metric: float | None
    seconds: float


Record = StepRecord | EpochRecord
Point = tuple[float, float]


class Curves:
    """A file of records, one a line; nowhere where no path is given.

    A line that a kill cut short is not read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def add(self, record: Record) -> None:
        """Append a record; what is not finite becomes null. Raises TrainingError."""
        if self._path is None:
            return
        content = {key: _finite(value) for key, value in record.items()}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(content) + "\n")
        except OSError as error:
            raise TrainingError(f"{self._path} cannot be written: {error.strerror}") from error

    def keep(self, before: int) -> None:
        """Forget records of steps from `before` on: they will come again."""
        if self._path is None or not self._path.exists():
            return
        kept = [
            record
            for record in read_curves(self._path)
            if _is_number(step := record.get("step")) and step < before
        ]
        self._path.write_text("".join(json.dumps(record) + "\n" for record in kept))


@dataclass(frozen=True, slots=True)
class Phase:
    """What a file of curves tells: the usable records of its epochs and steps, in order.

    Numbers are finite, or missing.
    """

    name: str
    epochs: list[dict[str, Any]]
    steps: list[dict[str, Any]]

    def points(self, kind: Literal["epoch", "step"], key: str) -> list[Point]:
        """The curve of a key over epochs or over steps."""
        records = self.epochs if kind == "epoch" else self.steps
        known = [record for record in records if _is_number(record.get(key))]
        return [(float(record[kind]), float(record[key])) for record in known]

    @property
    def best(self) -> dict[str, Any] | None:
        """The first epoch with the least validation loss, as training chooses it."""
        known = [each for each in self.epochs if _is_number(each.get("validation_loss"))]
        return min(known, key=lambda each: float(each["validation_loss"]), default=None)


def read_curves(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file. Raises TrainingError where there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise TrainingError(f"{path} is larger than any file of curves; is it the right file?")
    for line in content.decode(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def read_phases(path: Path) -> list[Phase]:
    """The phases of a training: of its run folder, or of one file of curves.

    Raises:
        TrainingError: there is none, or no record in any.
    """
    if not path.exists():
        raise TrainingError(f"there is no {path}; {_WHERE}")
    files = sorted(path.glob("*.jsonl"), key=_phase_order) if path.is_dir() else [path]
    phases = [_phase(file) for file in files]
    phases = [phase for phase in phases if phase.epochs or phase.steps]
    if not phases:
        raise TrainingError(f"{path} holds no curves (yet); {_WHERE}")
    return phases


def _phase_order(file: Path) -> tuple[int, str]:
    known = _PHASES.index(file.stem) if file.stem in _PHASES else len(_PHASES)
    return known, file.stem


def _phase(file: Path) -> Phase:
    """What can be used of a file; of records with one place the last."""
    found: dict[str, dict[float, dict[str, Any]]] = {"epoch": {}, "step": {}}
    for record in read_curves(file):
        kind = record.get("kind")
        if isinstance(kind, str) and kind in found and _is_number(place := record.get(kind)):
            found[kind][place] = {key: _finite(value) for key, value in record.items()}
    ordered = ([places[place] for place in sorted(places)] for places in found.values())
    return Phase(file.stem, *ordered)


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_LARGEST < value < _LARGEST  # false for NaN


def _finite(value: Any) -> Any:
    """The value; None for a number that is not finite."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and not _is_number(value) else value
