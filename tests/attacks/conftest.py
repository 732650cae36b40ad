from pathlib import Path

import pytest

from backbone import Backbone
from tests.attacks.support import QUERY
from tests.peft_folders import make_modules, write_peft
from tests.tiny import make_tiny_backbone


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return make_tiny_backbone(tmp_path_factory.mktemp("home") / "backbones")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As PEFT saves it, with LoRA at one site."""
    return write_peft(tmp_path / "peft", make_modules(QUERY))
