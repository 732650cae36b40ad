"""Documents that repeat the code are held to it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from adapters.errors import HeadstockError
from service.errors import STATUS
from service.metrics import Metrics
from service.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def settings_table() -> str:
    """The README's table, from the settings class."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default in (None, ()) else field.default
        lines.append(f"| `HEADSTOCK_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def test_every_setting_is_in_the_readme() -> None:
    assert settings_table() in README, f"the table must be:\n{settings_table()}"


def test_every_metric_is_in_the_operations_page() -> None:
    page = (ROOT / "OPERATIONS.md").read_text()
    families = [family.name for family in Metrics().registry.collect()]
    ours = [name for name in families if name.startswith("headstock_")]
    assert len(ours) > 10
    for name in ours:
        assert f"`{name}" in page, f"{name} is not documented"


def test_every_error_code_is_in_the_operations_page() -> None:
    page = (ROOT / "OPERATIONS.md").read_text()
    codes = {kind.code: status for kind, status, _ in STATUS} | {HeadstockError.code: 500}
    for code, status in codes.items():
        assert f"| `{code}` | {status} |" in page, f"| `{code}` | {status} | is not documented"


@pytest.mark.parametrize(
    "file", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "OPERATIONS.md"]
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
