"""The folder of one training: curves, and checkpoints while it is under way."""

from dataclasses import dataclass
from pathlib import Path

from training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Run:
    """A training's folder. Curves stay in it; checkpoints go when the training is done."""

    folder: Path

    def curves(self, phase: str) -> Path:
        """JSON lines of a phase; see `training.curves`."""
        return self.folder / f"{phase}.jsonl"

    def checkpoint(self, phase: str) -> Path:
        """Where a phase stands; see `training.finetune.checkpoint`."""
        return self.folder / f"{phase}.checkpoint"

    @property
    def trials(self) -> Path:
        """JSON lines of a search; see `training.experiments.ledger`."""
        return self.folder / "trials.jsonl"

    def begin(self, resume: bool) -> None:
        """Make the folder; forget what an earlier training left, unless this one goes on with it.

        Raises TrainingError.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            if not resume:
                self._remove("*.checkpoint", "*.jsonl")
        except OSError as error:
            raise TrainingError(
                f"the folder {self.folder} cannot be used for curves and checkpoints "
                f"({error.strerror}); name another with --run"
            ) from error

    def end(self) -> None:
        """Forget the checkpoints: the adapter is written."""
        self._remove("*.checkpoint")

    def _remove(self, *patterns: str) -> None:
        for pattern in patterns:
            for file in self.folder.glob(pattern):
                file.unlink(missing_ok=True)
