from pathlib import Path

import pytest

from tests.unit.headstock.support import write_rows


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("HEADSTOCK_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.csv")
