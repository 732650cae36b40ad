"""The command line in this process: what it prints, refuses and exits with."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from headstock.cli import main
from service import VERSION
from tests.peft_folders import make_modules, write_peft
from tests.support import SITES, make_adapter_file
from tests.tiny import WIDTH, make_tiny_backbone, write_tiny_model
from training.heads import METHODS

TRAINING = (Path(__file__).parents[3] / "TRAINING.md").read_text()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("HEADSTOCK_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    lines = ["text,label"]
    for number in range(40):
        letters = "aeiou" if number % 2 else "12345"
        lines.append(f"{''.join(random.choice(list(letters), 6))}{number},{letters[0]}")
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    return path


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["headstock", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    captured = capsys.readouterr()
    code = caught.value.code
    assert code is None or isinstance(code, int)
    return code or 0, captured.out, captured.err


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
    assert "Note: the LoRA names no base model" in err
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    code, out, _ = run(monkeypatch, capsys, "inspect", "b.safetensors")
    assert "rank 4 at 1 sites: layer.query" in out
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


def test_wrong_usage_is_status_2(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, capsys, "train")[0] == 2
    assert run(monkeypatch, capsys, "trane")[0] == 2
    assert run(monkeypatch, capsys, "push", "nowhere", "--tenant", "a", "--name", "b")[0] == 2
    train = ("train", "x.csv", "--backbone", "none", "--output", "y", "--seed")
    assert run(monkeypatch, capsys, *train, "4294967295")[0] == 1
    assert run(monkeypatch, capsys, *train, "4294967296")[0] == 2


ADD = ("backbone", "add", "--name", "x")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("train", "x.csv", "--backbone", "none", "--output", "y"), "headstock backbone add"),
        (("backbone", "add", "no/such/thing", "--name", "x"), "no folder, no .onnx file"),
        (("backbone", "add", "x.onnx", "--name", "../x"), "is not valid"),
        ((*ADD, "x.onnx", "--layers"), "--layers is for Hugging Face ids and folders"),
        ((*ADD, "x.onnx", "--revision", "main"), "--revision is for the hub"),
        ((*ADD, ".", "--revision", "main"), "--revision is for the hub"),
        ((*ADD, "a/b", "--tap", "tokens=x"), "--tap is for an .onnx file"),
        ((*ADD, "a/b", "--tokenizer", "x.json"), "--tokenizer is for an .onnx file"),
        ((*ADD, ".", "--max-length", "9"), "--max-length is for an .onnx file"),
        (("inspect", "nowhere"), "cannot read nowhere"),
        (("tenant", "list"), "set HEADSTOCK_KEY"),
        (("tenant", "list", "--key", " \n"), "set HEADSTOCK_KEY"),
        (("tenant", "list", "--key", "schlüssel"), "the key has characters"),
        (("tenant", "list", "--key", "k", "--server", "http://a:x"), "is not the address"),
        (("tenant", "list", "--key", "k", "--server", "localhost"), "must begin with http://"),
        (("predict", "acme", "text", "--key", "k"), "must be TENANT/ADAPTER"),
        (("predict", "acme/../x", "text", "--key", "k"), "is not valid"),
        (("serve",), "no backbone under"),
        (("tenant", "list", "--key", "k", "--server", "http://127.0.0.1:9"), "is the server up?"),
    ],
)
def test_refusals_say_what_to_do(
    arguments: tuple[str, ...],
    reason: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("HEADSTOCK_KEY", raising=False)
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert (code, out) == (1, "")
    assert reason in err


WITHOUT_TRAINING = """
import sys
for name in ("torch", "transformers", "onnx", "onnxscript", "sklearn", "scipy", "polars"):
    sys.modules[name] = None
from headstock.cli import main
from service import VERSION
main()
"""


def test_a_command_without_its_installation_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(make_adapter_file(labels=("yes", "no")))

    def run_bare(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", WITHOUT_TRAINING, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
        )

    train = ("train", "x.csv", "--backbone", "b", "--output", "y", "--json")
    for arguments in (train, (*ADD, "x.onnx", "--json")):
        done = run_bare(*arguments)
        assert done.returncode == 1, done.stderr
        assert "pip install 'headstock[train]'" in done.stderr
        assert "Traceback" not in done.stderr
        assert json.loads(done.stdout)["error"]["code"] == "not-installed"
    shown = run_bare("inspect", "a.safetensors", "--json")
    assert json.loads(shown.stdout)["labels"] == ["yes", "no"]


def test_a_bad_setting_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADSTOCK_PORT", "eighty")
    code, _, err = run(monkeypatch, capsys, "backbone", "list")
    assert code == 1
    assert "HEADSTOCK_PORT" in err


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


@pytest.mark.parametrize("command", ["", "train", "backbone add", "serve", "demo", "release set"])
def test_every_command_explains_itself(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(monkeypatch, capsys, *command.split(), "--help")
    assert code == 0
    assert "Usage" in out


def test_the_help_of_train_names_every_head(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(monkeypatch, capsys, "train", "--help")
    for name in METHODS:
        assert f" {name}, " in out, name
        assert f"| `{name}` | " in TRAINING, name


def test_a_tenants_feature_cache_is_shown_and_set(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = {"mode": "off"}
    sent = []

    def answer(
        self: httpx.Client, method: str, path: str, json: dict[str, str] | None = None
    ) -> httpx.Response:
        sent.append((method, path))
        now.update(json or {})
        return httpx.Response(200, json=now, request=httpx.Request(method, f"http://x{path}"))

    monkeypatch.setattr(httpx.Client, "request", answer)
    cache = ("tenant", "cache", "acme")
    code, out, err = run(monkeypatch, capsys, *cache, "--key", "k")
    assert (code, out) == (0, "")
    assert err == "Feature cache of acme: off; features of its inputs are not kept.\n"
    code, out, _ = run(monkeypatch, capsys, *cache, "own", "--key", "k", "--json")
    assert (code, json.loads(out)) == (0, {"mode": "own"})
    code, _, err = run(monkeypatch, capsys, *cache, "shared", "--key", "k")
    assert (code, now) == (0, {"mode": "shared"})
    assert "for all tenants that share" in err
    assert run(monkeypatch, capsys, *cache, "on", "--key", "k")[0] == 2
    path = "/v1/tenants/acme/feature-cache"
    assert sent == [("GET", path), ("PUT", path), ("PUT", path)]


def test_the_version_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, capsys, "--version") == (0, f"headstock {VERSION}\n", "")


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
