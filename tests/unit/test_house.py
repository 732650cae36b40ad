"""The rooms of the house and the arrows between them, read from the source."""

import ast
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from backbone.telemetry import OPT_OUTS

ROOT = Path(__file__).parents[2]
ROOMS = ("backbone", "adapters", "training", "service", "headstock")
ARROWS = {
    "backbone": set[str](),
    "adapters": set[str](),
    "training": {"backbone", "adapters"},
    "service": {"backbone", "adapters"},
    "headstock": {"backbone", "adapters", "training", "service"},
}
# Heavy or special packages, and the only places that may import them.
PLACES = {
    "torch": ("training/",),
    "transformers": ("training/",),
    "torchaudio": ("training/",),
    "sentence_transformers": ("training/",),
    "onnxscript": ("training/",),
    "ray": ("training/fleet/cluster.py",),
    "huggingface_hub": ("training/backbones/",),
    "scipy": ("training/",),
    "sklearn": ("training/",),
    "polars": ("training/",),
    "optuna": ("training/experiments/",),
    "bentoml": ("service/app.py",),
    "onnx": ("training/", "backbone/surgery/"),
    "onnxruntime": ("backbone/kernels.py", "backbone/runtime.py", "backbone/lora.py"),
    "tokenizers": ("backbone/",),
    "sqlalchemy": ("adapters/registry/",),
    "starlette": ("service/http/", "service/app.py"),
    "grpc": ("service/grpc/",),
    "grpc_health": ("service/grpc/",),
    "grpc_reflection": ("service/grpc/",),
    "opentelemetry": ("service/tracing.py",),
    "structlog": ("service/log.py",),
    "uvicorn": ("service/server.py", "service/http/protocol.py"),
    "typer": ("headstock/",),
    "matplotlib": ("headstock/plots/image.py",),
}


def python_files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@cache
def imports(file: Path) -> frozenset[str]:
    """The top-level names of all modules that a file imports, anywhere in it."""
    found = set[str]()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return frozenset(found)


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_between_rooms_point_one_way(room: str) -> None:
    allowed = ARROWS[room] | {room}
    for file in python_files(room):
        wrong = (imports(file) & set(ROOMS)) - allowed
        assert not wrong, f"{file.relative_to(ROOT)} must not import {sorted(wrong)}"


@pytest.mark.parametrize("package", PLACES)
def test_heavy_packages_stay_in_their_place(package: str) -> None:
    for room in ROOMS:
        for file in python_files(room):
            name = file.relative_to(ROOT).as_posix()
            if not name.startswith(PLACES[package]):
                assert package not in imports(file), f"{name} must not import {package}"


@pytest.mark.parametrize("package", [*ROOMS, "benchmarks", "tests"])
def test_no_package_is_imported_with_telemetry_on(package: str) -> None:
    """Whatever else a file imports comes after its package: no library finds the variables unset.

    `adapters` alone imports nothing of ours, nor any library that would report.
    """
    bare = {name: value for name, value in os.environ.items() if name not in OPT_OUTS}
    code = f"import os, {package}; print([os.environ.get(name) for name in {list(OPT_OUTS)}])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=bare, capture_output=True, text=True, check=True
    )
    expected = [None if package == "adapters" else value for value in OPT_OUTS.values()]
    assert done.stdout.strip() == str(expected)


def test_what_reports_to_its_maker_is_imported_in_packages_that_turn_it_off() -> None:
    reporting = {"onnxruntime", "bentoml", "ray", "mlflow", "huggingface_hub", "transformers"}
    covered = {"backbone", "training", "service", "headstock", "benchmarks", "tests"}
    files = ROOT.glob("[!.]*/**/*.py")  # environments, of peers too, are in folders with a dot
    found = {file.relative_to(ROOT).parts[0] for file in files if imports(file) & reporting}
    assert found <= covered
    assert {"backbone", "training", "service", "benchmarks"} <= found


def test_this_very_process_has_telemetry_off() -> None:
    assert {name: os.environ.get(name) for name in OPT_OUTS} == OPT_OUTS


def test_one_function_counts_cores() -> None:
    """Others would forget the quota of a container, or the limit of a fleet's process."""
    counting = re.compile(r"sched_getaffinity|cpu_count|hardware_concurrency")
    files = [file for room in (*ROOMS, "benchmarks") for file in python_files(room)]
    found = {str(file.relative_to(ROOT)) for file in files if counting.search(file.read_text())}
    assert found == {"backbone/cores.py"}


def test_every_file_of_the_rooms_is_looked_at() -> None:
    assert all(len(python_files(room)) > 3 for room in ROOMS)


def test_what_serves_runs_without_the_training_installation() -> None:
    """Import all that a server and its command need while torch and its kin cannot be imported."""
    absent = [
        "torch",
        "transformers",
        "sentence_transformers",
        "onnx",
        "onnxscript",
        "sklearn",
        "scipy",
        "polars",
    ]
    absent += ["optuna", "pytest"]
    code = (
        "import sys\n"
        f"for name in {absent!r}: sys.modules[name] = None\n"
        "import service.app, headstock.cli, headstock.client, adapters.registry\n"
        "from service.runtime import Runtime\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_commands_that_talk_to_a_server_start_without_what_computes() -> None:
    heavy = ["numpy", "onnxruntime", "sqlalchemy", "bentoml", "grpc", "polars", "torch"]
    code = (
        "import sys\n"
        "import headstock.cli, headstock.client\n"
        f"found = [name for name in {heavy!r} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_packed_service_starts_from_what_is_packed(tmp_path: Path) -> None:
    """A Bento holds copied files and no metadata of an installed package."""
    packed = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["include"]
    patterns = [each.replace("**", "**/*") for each in packed]  # in bentoml, ** is files too
    files = [file for pattern in patterns for file in ROOT.glob(pattern) if file.is_file()]
    assert len(files) > 50
    for file in files:
        target = tmp_path / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    code = (
        "import importlib.metadata as metadata, sys\n"
        "real = metadata.distribution\n"
        "def distribution(name):\n"
        "    if name == 'headstock': raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.distribution = distribution\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import service.app\n"
        "print(service.app.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "service" / "app.py")
