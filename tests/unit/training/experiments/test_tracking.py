"""What is told to MLflow, by a module that writes it down."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from adapters.manifest import Estimate, Measured
from tests.unit.training.experiments.support import trial_of
from training.errors import TrainingError
from training.experiments.tracking import Mlflow
from training.experiments.trial import HELD_OUT
from training.experiments.tune import Tuned
from training.finetune.settings import LoraRecipe
from training.recipe import Recipe
from training.train import Origin


class Fake(ModuleType):
    """The calls by the names of the runs that they were made in."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.calls: dict[str, list[Any]] = {"": []}
        self.within = [""]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *given: self.calls[self.within[-1]].append((name, *given))

    @contextmanager
    def start_run(self, run_name: str, nested: bool = False) -> Iterator[None]:
        assert nested == (len(self.within) > 1)
        self.within.append(run_name)
        self.calls[run_name] = []
        yield
        self.within.pop()


@pytest.fixture
def tuned() -> Tuned:
    lora = trial_of(1, [1.0, 3.0], judged_on=HELD_OUT, lora=LoraRecipe(rank=4))
    failed = trial_of(2, [1.0]).model_copy(
        update={"state": "failed", "reason": "why", "loss": None, "standard_error": None}
    )
    trials = (trial_of(0, [1.0, 2.0]), lora, failed)
    return Tuned(Recipe(head="logistic"), 0, "the least loss", trials, Origin())


def test_a_search_is_a_run_with_its_trials_inside(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    estimate = Estimate(value=0.9, low=0.8, high=1.0)
    measured = Measured(rows=10, adapter={"accuracy": estimate}, baselines={})
    Mlflow("sqlite:///x.db").log(tuned, tmp_path / "mine.safetensors", measured)
    assert fake.calls[""] == [
        ("set_tracking_uri", "sqlite:///x.db"),
        ("set_experiment", "headstock"),
    ]
    whole = {name: given for name, *given in fake.calls["mine"]}
    assert whole["log_params"][0]["head"] == "logistic"
    assert whole["log_params"][0]["chosen"] == 0
    assert whole["log_metric"] == ["test_accuracy", 0.9]
    assert whole["log_artifact"] == [str(tmp_path / "mine.safetensors")]
    (_, params), (_, metrics) = fake.calls["trial 1"]
    assert (params["lora_rank"], params["judged_on"]) == (4, "held-out rows")
    assert metrics == {"loss": 2.0, "standard_error": 1.0, "seconds": 1.0}
    (_, params), (_, metrics) = fake.calls["trial 2"]
    assert (params["state"], params["reason"]) == ("failed", "why")
    assert metrics == {"seconds": 1.0}


def test_what_mlflow_refuses_is_said(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(Fake):
        def set_experiment(self, _: str) -> None:
            raise ValueError("no such server")

    monkeypatch.setitem(sys.modules, "mlflow", Refusing())
    with pytest.raises(TrainingError, match="MLflow at here failed: no such server"):
        Mlflow("here").log(tuned, tmp_path / "mine.safetensors", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrainingError, match="pip install mlflow"):
        Mlflow("here")
