"""`headstock train` in this process: one training, or a manifest of them."""

import json
import sys
from pathlib import Path

import pytest

from tests.tiny import make_tiny_backbone
from tests.unit.headstock.support import run


def test_rows_of_several_labels_to_an_adapter_and_its_answers(
    home: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_tiny_backbone(home / "backbones")
    lines = data.read_text().splitlines()
    data.write_text("\n".join([*lines, *(f"{line}|z" for line in lines[1:]), "-,", "+,", "*,"]))
    train = ("train", str(data), "--backbone", "tiny", "--output", "a.safetensors")
    code, out, err = run(monkeypatch, capsys, *train, "--task", "multilabel")
    assert code == 0, err
    assert [word in out for word in ("micro f1", "exact match", "majority", "tfidf")] == [True] * 4
    code, out, _ = run(monkeypatch, capsys, "inspect", "a.safetensors")
    assert "3: 1, a, z" in out
    evaluate = ("evaluate", "a.safetensors", str(data), "--predictions", "rows.jsonl", "--json")
    code, out, err = run(monkeypatch, capsys, *evaluate)
    assert code == 0, err
    assert json.loads(out)["adapter"]["micro_f1"]["value"] > 0.5
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 83
    assert [set(row) for row in rows] == [{"labels"}] * 83
    code, out, err = run(monkeypatch, capsys, *train, "--task", "regression", "--head", "logistic")
    assert code == 2
    assert "a logistic head cannot do regression" in err


def test_texts_without_labels(
    home: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_tiny_backbone(home / "backbones")
    (tmp_path / "more.csv").write_text("text\nuoiea7\n345123\naaeeii\n")
    train = ("train", str(data), "--backbone", "tiny", "--output", "a.safetensors")
    code, out, err = run(monkeypatch, capsys, *train, "--unlabelled", "more.csv", "--json")
    assert code == 0, err
    assert json.loads(out)["manifest"]["training"]["settings"]["unlabelled_texts"] == 3
    for options, said in (
        (("--unlabelled", "none.csv"), "none.csv"),
        (("--unlabelled", "more.csv", "--tune", "heads"), "give --unlabelled without it"),
        (("--unlabelled", "more.csv", "--output", "more.csv"), "is the input itself"),
        (("--unlabelled", "more.csv", "--text-column", "q"), "no column 'q'"),
        (("--unlabelled", "more.csv", "--head", "knn"), "which stores labelled rows"),
    ):
        code, _, err = run(monkeypatch, capsys, *train, *options)
        assert code in (1, 2)
        assert said in " ".join(err.split())


def test_two_files_are_measured_on_the_second(
    home: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One is a list in JSON, the other tab-separated; one row of the second is in both."""
    make_tiny_backbone(home / "backbones")
    rows = [line.rsplit(",", 1) for line in data.read_text().splitlines()[1:]]
    objects = [{"question": text, "intent": label} for text, label in rows[:-10]]
    (tmp_path / "train.json").write_text(json.dumps(objects))
    lines = ["\t".join(row) for row in (["question", "intent"], *rows[-10:], rows[0])]
    (tmp_path / "test.tsv").write_text("\n".join(lines))
    files = ("train.json", "--test-data", "test.tsv")
    columns = ("--input-column", "question", "--label-column", "intent")
    made = ("--backbone", "tiny", "--output", "a.safetensors", "--json")
    code, out, err = run(monkeypatch, capsys, "train", *files, *columns, *made)
    assert code == 0, err
    trained = json.loads(out)
    assert trained["manifest"]["training"]["rows"] == len(rows) - 10
    assert trained["manifest"]["measured"]["rows"] == 11
    assert "leaked-test-rows" in [each["code"] for each in trained["findings"]]
    evaluate = ("evaluate", "a.safetensors", *files, *columns, "--json")
    code, out, err = run(monkeypatch, capsys, *evaluate, "--predictions", "rows.jsonl")
    assert code == 0, err
    assert json.loads(out)["adapter"] == trained["manifest"]["measured"]["adapter"]
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 11
    code, _, err = run(monkeypatch, capsys, *evaluate, "--predictions", "test.tsv")
    assert (code, "is the input itself" in err) == (1, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "lora.rank=4"), "lora.rank is a setting of --lora"),
        (("--set", "lora.rank=4", "--tune", "heads"), "--tune heads leaves LoRA out"),
        (("--lora", "--tune", "heads"), "--tune heads leaves LoRA out"),
        (("--budget", "30"), "--budget"),
        (("--set", "nope=1"), "there is no setting nope; known are: task, head,"),
        (("--lora", "--set", "lora.nope=1"), "there is no setting lora.nope; known are: rank,"),
    ],
)
def test_settings_that_would_say_nothing(
    options: tuple[str, ...],
    said: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train = ("train", str(data), "--backbone", "tiny", "--output", "a.safetensors")
    code, _, err = run(monkeypatch, capsys, *train, *options)
    assert code in (1, 2)
    assert said in " ".join(err.split())


BAD_ROWS = {
    "missing column": (b"sentence,label\na,b\n", "text"),
    "one class only": (b"text,label\na,x\nb,x\nc,x\n", "x"),
    "a class with one row": (b"text,label\n" + b"a,x\nb,x\nc,x\nd,x\n" * 3 + b"e,y\n", "y"),
    "empty": (b"", "empty"),
    "header only": (b"text,label\n", "no rows"),
    "wrong encoding": ("text,label\nschön,x\n".encode("latin-1"), "UTF-8"),
    "broken quotes": (b'text,label\n"a,x\n', "quot"),
    "empty label": (b"text,label\na,x\nb,\n", "label"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_cannot_be_used_are_refused_with_their_reason(
    name: str,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_tiny_backbone(home / "backbones")
    content, reason = BAD_ROWS[name]
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    train = ("train", str(path), "--backbone", "tiny", "--output", "a.safetensors")
    code, out, err = run(monkeypatch, capsys, *train)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ") or "\nError: " in err
    assert reason in err
    code, out, _ = run(monkeypatch, capsys, *train, "--json")
    assert code == 1
    assert json.loads(out)["error"]["code"] == "invalid-data"
    assert not (tmp_path / "a.safetensors").exists()


def test_a_result_never_replaces_its_input(
    home: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_tiny_backbone(home / "backbones")
    content = data.read_bytes()
    train = ("train", str(data), "--backbone", "tiny", "--output", data.name)
    code, _, err = run(monkeypatch, capsys, *train)
    assert code == 1
    assert "is the input itself" in err
    assert data.read_bytes() == content


def test_copies_that_teach_are_asked_for_by_name(
    home: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_tiny_backbone(home / "backbones")
    train = ("train", str(data), "--backbone", "tiny", "--output", "a.safetensors", "--json")
    code, out, err = run(monkeypatch, capsys, *train, "--augment", "word_swap", "--set", "copies=2")
    assert code == 0, err
    settings = json.loads(out)["manifest"]["training"]["settings"]
    assert (settings["augment"], settings["copies"]) == ("word_swap", 2)
    code, _, err = run(monkeypatch, capsys, *train, "--augment", "word_swaps")
    assert code == 2
    assert "augment: Input should be 'none', 'auto', 'word_drop'" in err
    code, _, err = run(monkeypatch, capsys, *train, "--augment", "auto", "--lora")
    assert code == 2
    assert "LoRA is trained on rows as they are" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backbone", "tiny"], "DATA: it is missing"),
        (["rows.csv"], "--backbone: it is missing"),
        (["rows.csv", "--backbone", "tiny", "--publish"], "--publish: belongs to --manifest"),
        (["rows.csv", "--backbone", "tiny", "--ray", "local"], "--ray: belongs to --manifest"),
        (["rows.csv", "--manifest", "jobs.jsonl"], "DATA: says nothing with --manifest"),
        (["--manifest", "jobs.jsonl", "--seed", "0"], "--seed: says nothing with --manifest"),
        (["--manifest", "jobs.jsonl", "--set", "seed=1"], "--set: says nothing with --manifest"),
    ],
)
def test_one_training_or_a_manifest_of_them(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    code, out, err = run(monkeypatch, capsys, "train", *arguments, "--output", "out")
    assert code == 2
    assert not out
    assert said in " ".join(err.replace("│", " ").split())


def test_ray_that_is_not_installed_is_named_before_the_work(
    home: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_tiny_backbone(home / "backbones")
    line = {"tenant": "acme", "adapter": "intents", "data": data.name, "backbone": "tiny"}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(line))
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ("--manifest", "jobs.jsonl", "--output", "out", "--ray", "local", "--json")
    code, out, err = run(monkeypatch, capsys, "train", *arguments)
    assert code == 1
    assert json.loads(out)["error"]["code"] == "not-installed"
    assert "pip install 'headstock[train,ray]'" in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_cannot_be_used_is_refused_with_its_lines(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"tenant": "acme"}\n')
    arguments = ("train", "--manifest", "jobs.jsonl", "--output", "out", "--json")
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert code == 1
    assert json.loads(out)["error"]["code"] == "invalid-manifest"
    assert "jobs.jsonl, line 1: adapter: Field required" in err
    assert not (tmp_path / "out").exists()
