"""The record of a search: JSON lines, a trial each, written as it ends."""

import json
from pathlib import Path

from pydantic import ValidationError

from adapters.container import write_file
from training.errors import TrainingError
from training.experiments.trial import JudgedOn, Trial


class Ledger:
    """Trials by number, the last word on each; in a file where there is a path.

    The first line holds the `key` of the search, so that another search is not gone on with.
    `spent` are the seconds of all trials, also of those that were taken anew.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        """Raises TrainingError where the file is of another search or cannot be used."""
        self._path = path
        self._trials: dict[int, Trial] = {}
        self.spent = 0.0
        kept = [] if path is None else _read(path, key)
        if path is not None:
            lines = [json.dumps({"search": key}), *(each.model_dump_json() for each in kept)]
            write_file(path, "".join(f"{line}\n" for line in lines).encode())
        for trial in kept:
            self._take(trial)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """In the order of their numbers."""
        return tuple(self._trials[number] for number in sorted(self._trials))

    def judged_on(self, what: JudgedOn) -> tuple[Trial, ...]:
        """The trials of one kind of judgement."""
        return tuple(trial for trial in self.trials if trial.judged_on == what)

    def get(self, number: int) -> Trial | None:
        """The trial of a number, if there was one."""
        return self._trials.get(number)

    def add(self, trial: Trial) -> None:
        """Keep a trial. Raises TrainingError where it cannot be written."""
        self._take(trial)
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{trial.model_dump_json()}\n")
        except OSError as error:
            raise TrainingError(f"{self._path} cannot be written: {error.strerror}") from error

    def _take(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        self.spent += trial.seconds


def _read(path: Path, key: str) -> list[Trial]:
    """The trials of a file, if there is one; a line that a kill cut short is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error
    if lines and lines[0] != json.dumps({"search": key}):
        raise TrainingError(
            f"{path} is the record of another search (other data, backbone or settings); leave out "
            "--resume to begin anew, or name another folder with --run"
        )
    trials = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            trials.append(Trial.model_validate_json(line))
        except ValidationError as error:
            if number < len(lines):
                raise TrainingError(
                    f"{path}, line {number}: no trial; leave out --resume to begin anew"
                ) from error
    return trials
