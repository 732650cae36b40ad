from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from backbone import Backbone
from tests.attacks.support import QUERY
from tests.peft_folders import make_modules, write_peft
from tests.tiny import make_tiny_backbone


class RecordAttack(Protocol):
    """Adds to the table of SECURITY.md what a test tried, beyond being one test."""

    def __call__(self, attempts: int, figure: str = "") -> None: ...


@pytest.fixture
def record_attack(record_property: Callable[[str, object], None]) -> RecordAttack:
    """`attempts`: how many requests, files or connections; `figure`: what was measured, in words.

    Call it once in a test, before its assertions: a failure belongs into the table too.
    """

    def record(attempts: int, figure: str = "") -> None:
        record_property("attempts", attempts)
        if figure:
            record_property("figure", figure)

    return record


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return make_tiny_backbone(tmp_path_factory.mktemp("home") / "backbones")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As PEFT saves it, with LoRA at one site."""
    return write_peft(tmp_path / "peft", make_modules(QUERY))
