"""`headstock curves` as it is typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headstock.cli import main
from tests.curves import write_curves


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine.run"
    folder.mkdir()
    write_curves(folder / "probe.jsonl", [0.9, 0.5, 0.7])
    with (folder / "probe.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "epo')  # a training writes this very moment
    return folder


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["headstock", "curves", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    captured = capsys.readouterr()
    code = caught.value.code
    assert code is None or isinstance(code, int)
    return code or 0, captured.out, captured.err


@pytest.mark.parametrize(("encoding", "best"), [("utf-8", "★"), ("ascii", "*")])
def test_piped_it_is_text_of_80_columns_without_colour(
    encoding: str, best: str, run_folder: Path
) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-m", "headstock", "curves", str(run_folder)],
        env={**kept, "PYTHONIOENCODING": encoding, "FORCE_COLOR": "", "TTY_COMPATIBLE": "0"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    lines = done.stdout.decode(encoding).splitlines()
    assert lines[0].startswith("probe: epoch 3, best: epoch 2, train loss 0.4, validation loss 0.5")
    assert f"{best} best, epoch 2" in lines[1]
    assert [line.split("  ")[0] for line in lines if "  " in line and line[0].isalpha()] == [
        "loss",
        "gap",
        "learning rate",
    ]
    assert max(map(len, lines[1:])) == 80
    assert b"\x1b" not in done.stdout


def test_one_json_document(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(monkeypatch, capsys, str(run_folder / "probe.jsonl"), "--json")
    (phase,) = json.loads(out)["phases"]
    assert (code, phase["phase"], phase["best_epoch"]) == (0, "probe", 2)
    assert (len(phase["epochs"]), len(phase["steps"])) == (3, 3)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("suffix", [".png", ".SVG"])
def test_an_image(
    suffix: str,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = tmp_path / f"curves{suffix}"
    code, out, err = run(monkeypatch, capsys, str(run_folder), "--image", str(image))
    assert (code, out) == (0, "")
    assert "Wrote" in err
    assert image.stat().st_size > 5000


def test_what_is_refused(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = run(monkeypatch, capsys, str(run_folder), "--image", "curves.pdf")
    assert code == 2
    assert "must end with .png or .svg" in err
    lost = str(tmp_path / "lost" / "curves.png")
    code, _, err = run(monkeypatch, capsys, str(run_folder), "--image", lost)
    assert code == 1
    assert "make it first" in err
    code, _, err = run(monkeypatch, capsys, str(tmp_path))
    assert code == 1
    assert "holds no curves" in err


def test_an_image_without_its_extra_says_what_to_install(run_folder: Path) -> None:
    code = "import sys\nsys.modules['matplotlib'] = None\nfrom headstock.cli import main\nmain()\n"
    command = [sys.executable, "-c", code, "curves", str(run_folder)]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "learning rate" in drawn.stdout
    image = str(run_folder / "curves.png")
    done = subprocess.run(
        [*command, "--image", image], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "pip install 'headstock[plots]'" in done.stderr
    assert "Traceback" not in done.stderr
