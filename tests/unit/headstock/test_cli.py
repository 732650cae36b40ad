"""Any command: what it prints, refuses and exits with."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service import VERSION
from tests.support import make_adapter_file
from tests.unit.headstock.support import run
from training.heads import METHODS

TRAINING = (Path(__file__).parents[3] / "TRAINING.md").read_text()


def test_the_version_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, capsys, "--version") == (0, f"headstock {VERSION}\n", "")


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


def test_settings_that_do_not_go_together_are_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ADMIN_KEY", "METRICS_KEY"):
        monkeypatch.setenv(f"HEADSTOCK_{name}", "k" * 32)
    code, _, err = run(monkeypatch, capsys, "serve")
    assert code == 1
    assert "HEADSTOCK_METRICS_KEY must be another key than HEADSTOCK_ADMIN_KEY" in err
    assert "Value error" not in err


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
