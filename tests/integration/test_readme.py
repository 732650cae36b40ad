"""Every command of README and TRAINING, run as a newcomer would: a folder with the project."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.server import free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "TRAINING.md").read_text()
SETUP = ("pyproject.toml", "constraints.txt", "setup.py")  # what the environment is made of
PROJECT = ("Makefile", *SETUP, "headstock")
SERVERS = {"make serve", "headstock serve"}  # run until stopped
THIS_RUN = "make test"  # the command that runs this very test


def texts(page: str, kind: str) -> list[str]:
    """The blocks of one language."""
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


def blocks(page: str = README) -> list[list[str]]:
    """The commands of each shell block; a continued line is one command."""
    found = texts(page, "sh")
    return [block.replace("\\\n", " ").strip().splitlines() for block in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project by links, with this environment as its .venv: what is written stays in here."""
    folder = tmp_path_factory.mktemp("newcomer")
    for name in PROJECT:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    ready = folder / ".venv" / ".ready"
    newest = max((ROOT / name).stat().st_mtime for name in SETUP)
    assert ready.exists(), "the environment is not the one that `make setup` makes"
    assert ready.stat().st_mtime >= newest, "`make setup` is due"
    return folder


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTOCK_")}
    url = f"http://127.0.0.1:{port}"
    ports = {"HEADSTOCK_PORT": str(port), "HEADSTOCK_GRPC_PORT": str(free_port())}
    return {**kept, **ports, "HEADSTOCK_SERVER": url, "PYTHONUNBUFFERED": "1"}


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run one command in the activated environment; its whole output."""
    here = command.replace("127.0.0.1:8000", f"127.0.0.1:{environment['HEADSTOCK_PORT']}")
    done = subprocess.run(
        ["bash", "-c", f"source .venv/bin/activate && {here}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"$ {command}\n{output}"
    return output


@contextmanager
def server(command: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a command that serves; what it printed until a request is answered. Ends it in order."""
    log = folder / "terminal.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"source .venv/bin/activate && exec {command}"],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while "HEADSTOCK_KEY" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def test_the_readme_opens_with_what_it_is_for_then_the_two_commands() -> None:
    assert blocks()[0] == ["make demo", "make test"]
    purpose = README.split("## Two commands")[0].split("\n\n", 1)[1]
    assert len(purpose.strip().splitlines()) <= 5


def test_make_demo_works(folder: Path, environment: dict[str, str], demo_backbones: Path) -> None:
    output = run("make demo", folder, environment)
    assert re.search(r"requests that failed\s*\S\s*0\b", output)
    assert "damaged_item" in output
    copied = demo_backbones.with_suffix(".part")
    shutil.copytree(folder / ".headstock" / "backbones", copied)
    copied.rename(demo_backbones)


def test_make_test_is_what_continuous_integration_runs() -> None:
    assert THIS_RUN in (ROOT / ".ci" / "run").read_text()
    planned = subprocess.run(
        ["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(step in planned for step in ("ruff check", "ruff format --check", "mypy", "pytest"))


def test_a_first_adapter_and_the_rest_of_its_life(
    folder: Path, environment: dict[str, str]
) -> None:
    commands = [command for block in blocks()[1:-1] for command in block]
    assert "source .venv/bin/activate" in commands
    with server("make serve", folder, environment) as printed:
        key = re.search(r"export HEADSTOCK_KEY=(\S+)", printed)
        assert key is not None, printed
        own = {**environment, "HEADSTOCK_KEY": key[1]}
        outputs = {command: run(command, folder, own) for command in commands}
        (program,) = texts(README, "python")
        (folder / "program.py").write_text(
            program.replace("127.0.0.1:8000", f"127.0.0.1:{environment['HEADSTOCK_PORT']}")
        )
        assert "order_status" in run("python program.py", folder, own)
    first, second = (
        text for command, text in outputs.items() if command.startswith("headstock predict")
    )
    assert "order_status" in first  # what a human reader would say, too
    assert "refund" in first
    assert "damaged_item" in second
    assert "version 2" in second
    shown = [text for command, text in outputs.items() if "release show" in command]
    assert "version 1 answers" in shown[0]
    assert (folder / "rows.jsonl").read_text().count("\n") == 120
    curl = [text for command, text in outputs.items() if command.startswith("curl")]
    # One adapter, several at once, by the Open Inference Protocol, and no adapter at all.
    said = ('"predictions"', '"predictions"', '"refund"', '"embedding"')
    assert all(each in answer for each, answer in zip(said, curl, strict=True))


def test_the_commands_of_the_training_page(folder: Path, environment: dict[str, str]) -> None:
    commands = [command for block in blocks(TRAINING) for command in block]
    outputs = {command: run(command, folder, environment) for command in commands}
    assert "accuracy" in next(iter(outputs.values()))


def test_a_backbone_is_added_and_served(folder: Path, environment: dict[str, str]) -> None:
    add, serve = blocks()[-1]
    assert serve in SERVERS
    assert "Added backbone minilm" in run(add, folder, environment)
    database = f"sqlite:///{folder}/fresh.sqlite"
    with server(serve, folder, {**environment, "HEADSTOCK_DATABASE_URL": database}) as printed:
        key = re.search(r"export HEADSTOCK_KEY=(\S+)", printed)
        assert key is not None, printed
        own = {**environment, "HEADSTOCK_KEY": key[1]}
        assert "minilm" in run(
            'curl -sf --retry 20 --retry-connrefused -H "Authorization: Bearer $HEADSTOCK_KEY" '
            "http://127.0.0.1:8000/v1/backbones",
            folder,
            own,
        )


def test_every_command_of_the_readme_is_run_here() -> None:
    everything = [command for block in blocks() for command in block]
    own_adapter = [command for block in blocks()[1:-1] for command in block]
    assert set(everything) == {"make demo", THIS_RUN, *own_adapter, *blocks()[-1]}
