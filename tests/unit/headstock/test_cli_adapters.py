"""Adapter files at the command line: imported, inspected, and what is none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.peft_folders import make_modules, write_peft
from tests.support import SITES, make_adapter_file
from tests.tiny import WIDTH, make_tiny_backbone
from tests.unit.headstock.support import run


def test_what_peft_saved_becomes_an_adapter(
    home: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_tiny_backbone(home / "backbones")
    head = {"classifier.weight": np.ones((3, WIDTH), np.float32)}
    modules = make_modules({"layer.query": (4, WIDTH, WIDTH)})
    folder = write_peft(tmp_path / "peft", modules, head, task_type="TOKEN_CLS")
    (tmp_path / "labels.txt").write_text("O\nB-x\nI-x\n")
    take = ("import", str(folder), "--backbone", "tiny", "--output")
    code, out, err = run(
        monkeypatch, capsys, *take, "a.safetensors", "--labels", "labels.txt", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["manifest"]["labels"] == ["O", "B-x", "I-x"]
    code, out, err = run(monkeypatch, capsys, *take, "b.safetensors", "--labels", "O, B-x,I-x")
    assert code == 0, err
    assert "Warning: the LoRA names no base model" in err
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    code, out, err = run(monkeypatch, capsys, "inspect", "b.safetensors")
    assert "rank 4 at 1 sites: layer.query" in out
    assert "Warning: the LoRA names no base model" in err
    code, out, err = run(monkeypatch, capsys, *take, "c.safetensors", "--labels", "a,b", "--json")
    assert code == 1
    assert json.loads(out)["error"]["code"] == "invalid-peft"
    assert not (tmp_path / "c.safetensors").exists()
    own = str(folder / "adapter_model.safetensors")
    code, out, err = run(monkeypatch, capsys, *take, own, "--labels", "O,B-x,I-x")
    assert "is the input itself" in err.replace("\n", " ")
    code, out, err = run(monkeypatch, capsys, *take, "c.safetensors", "--task", "what")
    assert code == 2
    train = ("train", str(data), "--backbone", "tiny", "--output", "d.safetensors")
    code, out, err = run(monkeypatch, capsys, *train, "--any-base")
    assert code == 2
    assert "--any-base is for the LoRA of --peft" in err


def test_labels_that_look_like_markup_are_shown_as_they_are(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.safetensors").write_bytes(make_adapter_file(labels=("[red]", "[/b]")))
    code, out, _ = run(monkeypatch, capsys, "inspect", "a.safetensors")
    assert code == 0
    assert "[red], [/b]" in out


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ({}, ["classification, linear", "temperature"]),
        ({"task": "multilabel"}, ["multilabel, linear", "thresholds", "0.5, 0.5"]),
        ({"task": "regression", "head": "mlp"}, ["regression, mlp"]),
        ({"mix": (0.5, -1.25), "feature": "layers"}, ["layers, width 8", "mix", "0.5, -1.25"]),
        ({"head": "knn"}, ["classification, knn", "metric euclidean, k 3, scale 0.1"]),
        ({"head": "centroid"}, ["classification, centroid", "metric cosine, scale 10.0"]),
        (
            {"task": "tagging", "sites": SITES},
            ["tagging, linear", "rank 2 at 2 sites: layer.0.query, layer.0.value", "digest"],
        ),
    ],
)
def test_inspect_shows_what_an_adapter_is(
    kind: dict[str, Any],
    shown: list[str],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "a.safetensors").write_bytes(make_adapter_file(**kind))
    code, out, _ = run(monkeypatch, capsys, "inspect", "a.safetensors")
    assert code == 0
    assert all(each in out for each in shown)
    assert ("temperature" in out) == (kind.get("task") != "regression")
    assert ("LoRA" in out) == ("sites" in kind)


def test_what_is_no_adapter_is_not_sent(
    home: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    push = ("push", str(data), "--tenant", "a", "--name", "b", "--key", "k" * 40)
    code, _, err = run(monkeypatch, capsys, *push, "--server", "http://127.0.0.1:9")
    assert code == 1
    assert "not an adapter file" in err
