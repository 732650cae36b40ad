"""Findings of a training: every kind is explained, made somewhere, and fits into a file."""

import re
from pathlib import Path

import pytest

import training
from adapters.manifest import MAX_EVIDENCE
from training.findings import KINDS, find_truncated, make_finding, number_rows

ROOT = Path(training.__file__).parents[1]


def test_the_page_explains_every_kind_in_order() -> None:
    page = (ROOT / "TRAINING.md").read_text().partition("## Findings")[2]
    explained = re.findall(r"^\| `([a-z-]+)` \| (info|warning)", page, re.MULTILINE)
    assert explained == sorted(KINDS.items())


def test_every_kind_is_found_somewhere() -> None:
    sources = [*(ROOT / "training").rglob("*.py"), *(ROOT / "headstock").rglob("*.py")]
    made = {
        code
        for source in sources
        for code in re.findall(r'make_finding\(\s*"([a-z-]+)"', source.read_text())
    }
    assert made == set(KINDS)


def test_a_kind_that_nothing_explains_is_a_defect() -> None:
    with pytest.raises(KeyError):
        make_finding("new", "text")


def test_what_a_file_cannot_hold_is_a_defect() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        make_finding("weak-adapter", "text", baselines=("a",) * (MAX_EVIDENCE + 1))


def test_nothing_that_was_read_whole_is_found() -> None:
    assert find_truncated({"training": [False] * 9, "test": ()}, 256) == ()


@pytest.mark.parametrize(("n_cut", "severity"), [(1, "info"), (5, "info"), (6, "warning")])
def test_many_truncated_rows_are_a_warning(n_cut: int, severity: str) -> None:
    flags = [True] * n_cut + [False] * (100 - n_cut)
    (found,) = find_truncated({"training": [False] * 1000, "test": flags}, 256)
    assert found.severity == severity
    assert found.evidence == {"test_rows": n_cut, "max_length": 256}
    assert found.text.startswith(f"{n_cut} of 100 test rows are longer than the 256 tokens")


def test_rows_are_numbered_from_one_and_few_are_named() -> None:
    assert number_rows([0]) == "row 1"
    assert number_rows(range(7)) == "rows 1, 2, 3, 4, 5 and 2 more"
