import json
from pathlib import Path

import pytest

from adapters.registry import Registry
from tests.unit.headstock.support import run


@pytest.fixture
def registry(home: Path) -> Path:
    path = home / "registry.sqlite"
    with Registry.open(f"sqlite:///{path}") as registry:
        registry.create_tenant("acme", actor="admin")
    return path


def test_a_backup_is_made_and_restored(
    registry: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = run(monkeypatch, capsys, "registry", "backup", "monday", "--json")
    assert status == 0
    made = json.loads(out)
    assert (made["tenants"], made["versions"], made["changes"]) == (1, 0, 1)
    assert Path(made["file"]).stat().st_size == made["bytes"]
    status, _, said = run(monkeypatch, capsys, "registry", "backup", "monday")
    assert (status, "--replace" in said) == (1, True)
    status, out, said = run(monkeypatch, capsys, "registry", "backup", "monday", "--replace")
    assert (status, out) == (0, "")
    assert "tenants 1, versions 0" in said
    with Registry.open(f"sqlite:///{registry}") as opened:
        opened.create_tenant("newer", actor="admin")
    status, out, _ = run(monkeypatch, capsys, "registry", "restore", "monday", "--json")
    assert status == 0
    kept = Path(json.loads(out)["kept"])
    assert kept.parent == registry.parent
    with Registry.open(f"sqlite:///{registry}") as opened:
        assert [each.name for each in opened.list_tenants()] == ["acme"]
    status, _, said = run(monkeypatch, capsys, "registry", "restore", str(kept))
    assert status == 0
    assert "What was there before is in" in said
    with Registry.open(f"sqlite:///{registry}") as opened:
        assert [each.name for each in opened.list_tenants()] == ["acme", "newer"]


def test_what_cannot_be_restored_is_said_in_one_line(
    registry: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("nothing")
    status, out, said = run(monkeypatch, capsys, "registry", "restore", "file", "--json")
    assert status == 1
    assert said.strip() == "Error: file cannot be read as a registry: file is not a database"
    assert json.loads(out)["error"]["code"] == "invalid-input"


def test_there_is_no_backup_without_a_registry(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, said = run(monkeypatch, capsys, "registry", "backup", "monday")
    assert status == 1
    assert "there is no registry at" in said
    assert not home.exists()
