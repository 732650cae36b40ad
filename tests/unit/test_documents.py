"""Documents that repeat the code are held to it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from packaging.requirements import Requirement

from adapters.errors import HeadstockError
from service.errors import Problem, to_problem
from service.metrics import Metrics
from service.settings import Settings
from training.curves import EpochRecord, StepRecord
from training.finetune.settings import LoraRecipe

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def error_types(base: type[HeadstockError] = HeadstockError) -> Iterator[type[HeadstockError]]:
    """Every error that a server can answer with."""
    if base.__module__.split(".")[0] in ("adapters", "service"):
        yield base
    for kind in base.__subclasses__():
        yield from error_types(kind)


def status_of(kind: type[HeadstockError]) -> Problem:
    return to_problem(kind("said for the test"))


def settings_table() -> str:
    """The README's table, from the settings class."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default in (None, ()) else field.default
        lines.append(f"| `HEADSTOCK_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def test_every_setting_is_in_the_readme() -> None:
    assert settings_table() in README, f"the table must be:\n{settings_table()}"


def test_every_setting_of_lora_is_in_the_training_page() -> None:
    lines = []
    for name, field in LoraRecipe.model_fields.items():
        default = "" if field.default is None else field.default
        lines.append(f"| `lora.{name}` | {default} | {field.description} |")
    table = "\n".join(lines)
    assert table in (ROOT / "TRAINING.md").read_text(), f"the table must be:\n{table}"


def test_every_metric_is_in_the_operations_page() -> None:
    page = (ROOT / "OPERATIONS.md").read_text()
    metrics = Metrics()
    metrics.tls()
    families = [family.name for family in metrics.registry.collect()]
    ours = [name for name in families if name.startswith("headstock_")]
    assert len(ours) > 10
    for name in ours:
        assert f"`{name}" in page, f"{name} is not documented"


def test_every_error_code_is_in_the_operations_page() -> None:
    page = (ROOT / "OPERATIONS.md").read_text()
    everything = {kind.code: status_of(kind) for kind in error_types()}
    assert len(everything) > 15
    for code, problem in everything.items():
        row = f"| `{code}` | {problem.status} | {problem.grpc} |"
        assert row in page, f"{row} is not documented"


@pytest.mark.parametrize(
    "file",
    ["README.md", "TRAINING.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "OPERATIONS.md"],
)
def test_links_lead_somewhere(file: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / file).read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_two_lock_files_are_one_resolve() -> None:
    def pins(file: str) -> set[str]:
        lines = (ROOT / file).read_text().splitlines()
        return {line for line in lines if not line.startswith("#")}

    everything, serving = pins("constraints.txt"), pins("requirements-serving.txt")
    assert serving < everything
    assert "torch==2.13.0" in everything - serving
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {line.partition("==")[0] for line in serving}
    for text in project["dependencies"]:
        assert Requirement(text).name.lower() in names, f"`make lock` is due: {text}"


def test_the_figures_are_those_that_were_measured() -> None:
    section = README.split("## Figures")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text().splitlines()
    assert len(rows) > 8
    assert set(rows) <= set(results)


def test_every_key_of_the_curves_is_in_the_operations_page() -> None:
    page = (ROOT / "OPERATIONS.md").read_text().split("## Curves of a training")[1]
    table = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", page.split("\n## ")[0], re.MULTILINE)
    steps, epochs = get_type_hints(StepRecord), get_type_hints(EpochRecord)
    expected = {key: "step, epoch" if key in steps else "epoch" for key in epochs}
    assert dict(table) == expected
    assert steps.keys() <= epochs.keys()
