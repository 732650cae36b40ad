"""Another file comes to the registry's path, by hand, while the registry is open."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from adapters.errors import RegistryUnavailable
from adapters.registry import Registry
from adapters.registry import database as database_module
from tests.unit.registry.support import publish, url_of

Change = Callable[[Path, Path], None]


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_RETRY_S", 0)


@pytest.fixture
def copy(path: Path, registry: Registry, tmp_path: Path) -> Path:
    """A copy of the registry in which acme has one version; then come a second one and a tenant."""
    publish(registry, b"first", activate=True)
    registry.checkpoint()
    copy = tmp_path / "copy"
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(copy)) as target:
        live.backup(target)
    publish(registry, b"second", activate=True)
    registry.checkpoint()
    registry.create_tenant("newer", actor="admin")
    return copy


def adopt(registry: Registry) -> None:
    """What a follower does: read it all, then let changes in."""
    openings = registry.openings
    registry.adopt(openings, registry.read_tenants().mark)


def overwrite(copy: Path, path: Path) -> None:
    shutil.copyfile(copy, path)


def move(copy: Path, path: Path) -> None:
    copy.rename(path)


def delete_first(copy: Path, path: Path) -> None:
    path.unlink()
    shutil.copyfile(copy, path)


def rename_the_old_one(copy: Path, path: Path) -> None:
    path.rename(path.with_name("old"))
    shutil.copyfile(copy, path)


def link(copy: Path, path: Path) -> None:
    path.unlink()
    path.symlink_to(copy)


def make_the_folder_again(copy: Path, path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.mkdir()
    shutil.copyfile(copy, path)


REPLACEMENTS = [overwrite, move, delete_first, rename_the_old_one, link, make_the_folder_again]


@pytest.mark.parametrize("is_log_empty", [True, False])
@pytest.mark.parametrize("replace", REPLACEMENTS, ids=lambda each: each.__name__)
def test_a_sound_copy_is_followed_and_written_to_when_it_was_read(
    replace: Change, is_log_empty: bool, registry: Registry, path: Path, copy: Path
) -> None:
    if is_log_empty:
        registry.checkpoint()
    replace(copy, path)
    with pytest.raises(RegistryUnavailable, match="still reading it"):
        registry.create_tenant("third", actor="admin")
    assert [each.name for each in registry.list_tenants()] == ["acme", "other"]
    adopt(registry)
    registry.create_tenant("third", actor="admin")
    assert publish(registry, b"another", activate=True).version.number == 2
    registry.close()
    with Registry.open(url_of(path)) as again:
        assert [each.name for each in again.list_tenants()] == ["acme", "other", "third"]
    check(path)


def truncate(_: Path, path: Path) -> None:
    path.write_bytes(b"")


def cut(copy: Path, path: Path) -> None:
    path.write_bytes(copy.read_bytes()[:-8192])


def fill(_: Path, path: Path) -> None:
    path.write_bytes(b"not a database" * 10_000)


def delete(_: Path, path: Path) -> None:
    path.unlink()


def make_a_folder(_: Path, path: Path) -> None:
    path.unlink()
    path.mkdir()


def rename_the_folder(_: Path, path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def damage(copy: Path, path: Path) -> None:
    content = bytearray(copy.read_bytes())
    content[4096:12288] = b"x" * 8192
    path.unlink()
    path.write_bytes(content)


def put_another_programs(_: Path, path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE tenants (x)")


@pytest.mark.parametrize("is_log_empty", [True, False])
@pytest.mark.parametrize(
    ("replace", "said"),
    [
        (truncate, "is empty"),
        (cut, "damaged|not all there"),
        (fill, "not an SQLite database"),
        (delete, "is missing"),
        (make_a_folder, "not a regular file"),
        (rename_the_folder, "is missing"),
        (damage, "damaged"),
        (put_another_programs, "another program"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_is_no_sound_registry_is_refused_until_there_is_one(
    replace: Change, said: str, is_log_empty: bool, registry: Registry, path: Path, copy: Path
) -> None:
    if is_log_empty:
        registry.checkpoint()
    replace(copy, path)
    for _ in range(2):
        with pytest.raises(RegistryUnavailable, match=said):
            registry.create_tenant("third", actor="admin")
        with pytest.raises(RegistryUnavailable, match=said):
            registry.list_tenants()
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        path.rmdir()
    shutil.copyfile(copy, path)
    assert [each.name for each in registry.list_tenants()] == ["acme", "other"]
    adopt(registry)
    registry.create_tenant("third", actor="admin")
    check(path)


@pytest.mark.parametrize("suffix", ["-shm", "-wal"])
def test_a_file_of_the_log_that_is_deleted_loses_nothing(
    suffix: str, registry: Registry, path: Path
) -> None:
    Path(f"{path}{suffix}").unlink()
    assert [each.name for each in registry.list_tenants()] == ["acme", "other"]
    adopt(registry)
    registry.create_tenant("third", actor="admin")
    registry.close()
    with Registry.open(url_of(path)) as again:
        assert [each.name for each in again.list_tenants()] == ["acme", "other", "third"]
    check(path)


def test_a_file_replaced_while_a_change_is_made_is_no_success(
    registry: Registry, path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def advance(_: object) -> None:
        copy.rename(path)

    with monkeypatch.context() as patch:
        patch.setattr("adapters.registry.history.advance", advance)
        with pytest.raises(RegistryUnavailable, match="may be lost"):
            registry.create_tenant("third", actor="admin")
    assert [each.name for each in registry.list_tenants()] == ["acme", "other"]


def check(path: Path) -> None:
    """The file is sound, and no log lies beside it that would be applied to it wrongly."""
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
