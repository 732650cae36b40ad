"""`headstock backbone add`, and an ONNX file all the way to a measured adapter."""

import json
from pathlib import Path

import pytest

from headstock.commands.common import open_backbone
from tests.tiny import write_tiny_model
from tests.unit.headstock.support import run


def test_int8_says_what_it_costs_and_lora_takes_the_sites_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path)
    add = ("backbone", "add", str(model), "--name", "tiny", "--max-length", "16")
    lora = ("--lora", "up,down", "--lora", "query")
    code, out, err = run(monkeypatch, capsys, *add, "--precision", "int8", *lora, "--json")
    assert code == 0, err
    added = json.loads(out)
    assert added["precision"] == "int8"
    assert 0.9 < added["int8"]["cosine_minimum"] <= added["int8"]["cosine_mean"] <= 1.000001
    assert added["int8"]["speed"] > 0
    sites = [graph["sites"] for graph in added["lora"]]
    pair = ["layer.up", "layer.down"]
    assert sites == [["layer.query"], pair, ["layer.query", *pair]]
    code, out, err = run(monkeypatch, capsys, *add, "--precision", "int8", *lora)
    assert "Beside fp32: cosine" in err
    assert "LoRA graph lora-3.onnx: 3 of 4 sites" in err
    code, out, err = run(monkeypatch, capsys, *add)
    assert code == 1
    assert "is another backbone, model.onnx in int8" in err
    code, out, err = run(monkeypatch, capsys, *add, "--replace", "--lora", "qu")
    assert code == 1
    assert "its sites end with: down, query, up, value" in err.replace("\n", " ")


def test_a_prompt_is_put_before_every_text(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path)
    add = ("backbone", "add", str(model), "--name", "tiny", "--lora", "none")
    code, _, err = run(monkeypatch, capsys, *add, "--prompt", "query: ")
    assert code == 0, err
    assert "Every text gets the prompt 'query: '" in err
    tiny = open_backbone("tiny")
    assert tiny.manifest.preprocessing.prompt == "query: "
    code, _, err = run(monkeypatch, capsys, *add, "--prompt", "", "--replace")
    bare = open_backbone("tiny")
    assert bare.manifest.preprocessing.prompt == ""
    assert tiny.preprocess("hi").ids.tolist() == bare.preprocess("query: hi").ids.tolist()


def test_an_onnx_file_to_a_measured_adapter(
    home: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = write_tiny_model(tmp_path)
    add = ("backbone", "add", str(model), "--name", "tiny", "--max-length", "16")
    code, out, err = run(monkeypatch, capsys, *add, "--json")
    assert code == 0, err
    digest = json.loads(out)["digest"]
    code, out, _ = run(monkeypatch, capsys, "backbone", "list", "--json")
    assert [each["digest"] for each in json.loads(out)["backbones"]] == [digest]
    code, out, _ = run(monkeypatch, capsys, "backbone", "show", "tiny")
    assert digest in out.replace("\n", "").replace("│", "").replace(" ", "")

    train = ("train", str(data), "--backbone", "tiny", "--output", "a.safetensors")
    code, out, err = run(monkeypatch, capsys, *train, "--json")
    assert code == 0, err
    assert json.loads(out)["manifest"]["backbone"] == digest
    code, out, err = run(monkeypatch, capsys, *train)
    assert "majority" in out
    assert "Wrote a.safetensors" in err

    code, out, _ = run(monkeypatch, capsys, "inspect", "a.safetensors")
    assert code == 0
    assert "temperature" in out
    code, out, _ = run(monkeypatch, capsys, "inspect", "a.safetensors", "--json")
    assert json.loads(out)["labels"] == ["1", "a"]

    evaluate = ("evaluate", "a.safetensors", str(data), "--predictions", "rows.jsonl")
    code, out, err = run(monkeypatch, capsys, *evaluate, "--json")
    assert (json.loads(out)["rows"], json.loads(out)["held_out"]) == (8, True)
    assert "the 8 that its training held out" in err
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 40
    assert set(rows[0]) == {"label", "score"}
    code, out, _ = run(monkeypatch, capsys, *evaluate)
    assert "Measured on 8 test rows" in out
    other = tmp_path / "other.csv"
    other.write_text("\n".join(data.read_text().splitlines()[:-1]))
    code, out, _ = run(monkeypatch, capsys, "evaluate", "a.safetensors", str(other))
    assert "Measured on 39 rows" in out
    code, _, err = run(monkeypatch, capsys, *add)
    assert code == 0
    assert "It was there already" in err
    code, _, err = run(monkeypatch, capsys, *add[:-1], "8")
    assert code == 1
    assert "--replace" in err
    assert run(monkeypatch, capsys, *add[:-1], "8", "--replace")[0] == 0


def test_lengths_of_vectors_are_named_or_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = ("backbone", "add", str(write_tiny_model(tmp_path)), "--name", "cut", "--lora", "none")
    code, _, err = run(monkeypatch, capsys, *add, "--matryoshka", "2, 4")
    assert code == 0, err
    assert "Vectors may be cut to 2, 4 of their 8 numbers." in err
    for wrong in ("0", "a", "", "4,", "-2"):
        code, _, err = run(monkeypatch, capsys, *add, "--matryoshka", wrong)
        assert code == 1
        assert "must be lengths such as 64,128,256, or none" in err
