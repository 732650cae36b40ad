"""`headstock train --tune` in this process."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.tiny import make_tiny_backbone
from tests.unit.headstock.support import run, write_rows
from training.experiments.search import Search


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The command without its options, in a folder of its own."""
    monkeypatch.setenv("HEADSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    make_tiny_backbone(tmp_path / "home" / "backbones")
    write_rows(tmp_path / "rows.csv")
    return "train", "rows.csv", "--backbone", "tiny", "--output", "a.safetensors"


def test_trials_are_shown_kept_and_taken_up_again(
    train: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = ("--head", "centroid", "--weights", "balanced")
    code, out, err = run(monkeypatch, capsys, *train, *few, "--tune", "auto")
    assert code == 0, err
    assert "Heads, by repeated cross-validation" in out
    assert "Chosen: #0, " in out
    assert "accuracy" in out
    assert "LoRA was not searched: backbone tiny comes from an ONNX file" in err
    kept = (tmp_path / "a.run" / "trials.jsonl").read_text()
    assert len(kept.splitlines()) == 2
    more = (*train, *few, "--tune", "heads", "--resume", "--json")
    code, out, err = run(monkeypatch, capsys, *more)
    assert code == 0, err
    found = json.loads(out)
    assert found["tuned"]["chosen"] == 0
    assert [trial["state"] for trial in found["tuned"]["trials"]] == ["done"]
    assert found["tuned"]["recipe"]["head"] == "centroid"
    assert found["manifest"]["training"]["settings"]["tuned_trials"] == 1.0
    assert (tmp_path / "a.run" / "trials.jsonl").read_text() == kept
    code, out, err = run(monkeypatch, capsys, *train, "--tune", "heads", "--resume")
    assert code == 1
    assert "is the record of another search" in err


def test_what_mlflow_refuses_is_a_finding_beside_the_adapter(
    train: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))  # knows nothing
    options = ("--head", "ridge", "--tune", "heads", "--mlflow", "sqlite:///x.db", "--json")
    code, out, err = run(monkeypatch, capsys, *train, *options)
    assert code == 0, err
    assert "Warning: MLflow at sqlite:///x.db failed" in err
    assert "not-logged" in [each["code"] for each in json.loads(out)["findings"]]
    assert (tmp_path / "a.safetensors").exists()


def test_an_interruption_says_how_to_go_on(
    train: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "heads", interrupted)
    code, _, err = run(monkeypatch, capsys, *train, "--tune", "heads")
    assert code == 130
    assert "trials are kept in a.run; go on with the same command and --resume." in err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--tune", "yes"), 2, "--tune 'yes' must be auto or heads"),
        (("--mlflow", "x"), 2, "--mlflow logs the trials of --tune"),
        (("--tune", "auto", "--budget", "0"), 2, "--budget"),
        (("--tune", "auto", "--mlflow", "x"), 1, "pip install mlflow"),
    ],
)
def test_options_that_say_nothing_are_refused(
    options: tuple[str, ...],
    code: int,
    message: str,
    train: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    found, _, err = run(monkeypatch, capsys, *train, *options)
    assert found == code
    assert message in err.replace("\n", " ")
