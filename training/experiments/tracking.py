"""A search in MLflow, where that is installed: a run with each trial as a run inside it."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.manifest import Measured
from training.errors import TrainingError
from training.experiments.trial import Trial
from training.experiments.tune import Tuned

_EXPERIMENT = "headstock"


class Mlflow:
    """A place where searches are logged; `uri` is MLflow's tracking URI."""

    def __init__(self, uri: str) -> None:
        """Raises TrainingError where MLflow is not installed."""
        try:
            self._mlflow: Any = importlib.import_module("mlflow")
        except ImportError as error:
            raise TrainingError(
                "--mlflow needs MLflow, which is not installed: pip install mlflow"
            ) from error
        self._uri = uri

    def log(self, tuned: Tuned, file: Path, measured: Measured | None) -> None:
        """A search's trials, the chosen recipe, what is measured and the adapter.

        Raises TrainingError for whatever MLflow refuses.
        """
        try:
            self._log(tuned, file, measured)
        except Exception as error:  # MLflow's own, its client's, the database's
            raise TrainingError(f"MLflow at {self._uri} failed: {error}") from error

    def _log(self, tuned: Tuned, file: Path, measured: Measured | None) -> None:
        mlflow = self._mlflow
        mlflow.set_tracking_uri(self._uri)
        mlflow.set_experiment(_EXPERIMENT)
        with mlflow.start_run(run_name=file.stem):
            mlflow.log_params(_flat(tuned.recipe.model_dump()) | {"chosen": tuned.chosen})
            if measured is not None:
                for name, estimate in measured.adapter.items():
                    mlflow.log_metric(f"test_{name}", estimate.value)
            mlflow.log_artifact(str(file))
            for trial in tuned.trials:
                with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
                    self._log_trial(trial)

    def _log_trial(self, trial: Trial) -> None:
        told = trial.model_dump(include={"judged_on", "seeds", "state", "reason"})
        self._mlflow.log_params(_flat(trial.recipe.model_dump()) | told)
        scores = trial.model_dump(include={"loss", "standard_error", "seconds"})
        self._mlflow.log_metrics({name: each for name, each in scores.items() if each is not None})


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """LoRA's settings beside the others."""
    lora = {f"lora_{name}": value for name, value in (settings["lora"] or {}).items()}
    return {name: value for name, value in settings.items() if name != "lora"} | lora
