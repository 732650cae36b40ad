"""Backups, and what is restored from them, beside servers that have the registry open."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from adapters.errors import HeadstockError, InvalidInput, RegistryUnavailable
from adapters.registry import Registry
from adapters.registry.backup import backup
from adapters.registry.restore import Restored, restore
from adapters.registry.verify import Contents, Report
from tests.unit.registry.support import publish, sha256, url_of

CONTENT = bytes(range(256)) * 400


def stage(_: str) -> Report:
    return lambda *_: None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "monday"


def make_backup(path: Path, file: Path, *, replace: bool = False) -> Contents:
    file.parent.mkdir(exist_ok=True)
    return backup(url_of(path), file, replace=replace, stage=stage)


def bring_back(path: Path, file: Path) -> Restored:
    return restore(url_of(path), file, stage=stage)


def names(registry: Registry) -> list[str]:
    return [each.name for each in registry.list_tenants()]


def adopt(registry: Registry) -> None:
    registry.head()  # opens the file that is there now
    openings = registry.openings
    registry.adopt(openings, registry.read_tenants().mark)


def check(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.fixture
def saved(registry: Registry, path: Path, file: Path) -> Path:
    """A backup with one version of acme's; since then a tenant was added and a key revoked."""
    publish(registry, CONTENT, activate=True)
    make_backup(path, file)
    registry.create_tenant("newer", actor="admin")
    return file


def test_a_backup_is_one_private_file_with_all_of_it(
    registry: Registry, path: Path, file: Path
) -> None:
    publish(registry, CONTENT, activate=True)
    contents = make_backup(path, file)
    assert (contents.tenants, contents.versions, contents.changes) == (2, 1, registry.head().seq)
    assert contents.bytes == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    registry.create_tenant("after", actor="admin")
    opened = file.parent.parent / "opened"
    shutil.copy(file, opened)
    with Registry.open(url_of(opened)) as copy:
        assert names(copy) == ["acme", "other"]
        assert copy.read_content(sha256(CONTENT)) == CONTENT
        assert copy.head().history != registry.head().history


def test_a_backup_overwrites_nothing_unasked(registry: Registry, path: Path, file: Path) -> None:
    make_backup(path, file)
    before = file.read_bytes()
    registry.create_tenant("third", actor="admin")
    with pytest.raises(InvalidInput, match="--replace"):
        make_backup(path, file)
    assert file.read_bytes() == before
    assert make_backup(path, file, replace=True).tenants == 3


@pytest.mark.parametrize("name", ["registry.db", "registry.db-wal", "registry.db-shm", "link"])
def test_a_backup_never_takes_the_place_of_the_registry(
    name: str, registry: Registry, path: Path
) -> None:
    (path.parent / "link").symlink_to(path)
    with pytest.raises(InvalidInput, match="the registry itself"):
        make_backup(path, path.parent / name, replace=True)
    assert names(registry) == ["acme", "other"]


def test_a_backup_of_nothing_makes_nothing(path: Path, file: Path) -> None:
    with pytest.raises(InvalidInput, match="no registry at"):
        make_backup(path, file)
    assert not path.exists()
    assert list(file.parent.iterdir()) == []


def test_a_damaged_registry_gives_no_backup(registry: Registry, path: Path, file: Path) -> None:
    publish(registry, CONTENT)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE versions SET content = zeroblob(length(content))")
    with pytest.raises(InvalidInput, match=r"registry .* is damaged: the bytes of version 1"):
        make_backup(path, file)
    assert list(file.parent.iterdir()) == []


def test_an_open_registry_is_restored_and_goes_on(
    registry: Registry, path: Path, saved: Path
) -> None:
    before = registry.head()
    restored = bring_back(path, saved)
    assert restored.contents.tenants == 2
    with pytest.raises(RegistryUnavailable, match="still reading it"):
        registry.create_tenant("third", actor="admin")
    assert names(registry) == ["acme", "other"]
    assert registry.head().history != before.history
    assert registry.changes_since(before, 10) is None
    adopt(registry)
    registry.create_tenant("third", actor="admin")
    [_, row] = registry.list_audit(limit=2)
    assert (row.action, row.actor) == ("registry.restore", "setup")
    assert row.detail == {"changes": restored.contents.changes}
    assert restored.kept is not None
    assert stat.S_IMODE(restored.kept.stat().st_mode) == 0o600
    bring_back(path, restored.kept)
    assert names(registry) == ["acme", "newer", "other"]
    check(path)


def test_a_reader_keeps_its_moment_during_a_restore(
    registry: Registry, path: Path, saved: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        query = "SELECT count(*) FROM tenants"
        assert reader.execute(query).fetchone() == (3,)
        bring_back(path, saved)
        assert names(registry) == ["acme", "other"]
        assert reader.execute(query).fetchone() == (3,)
        reader.execute("ROLLBACK")
        assert reader.execute(query).fetchone() == (2,)
    registry.checkpoint()
    assert names(registry) == ["acme", "other"]
    check(path)


def test_a_writer_that_is_under_way_holds_a_restore_up(
    registry: Registry, path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.registry.overwrite.BUSY_TIMEOUT_S", 0.2)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryUnavailable, match="locked"):
            bring_back(path, saved)
        writer.execute("ROLLBACK")
    assert names(registry) == ["acme", "newer", "other"]
    bring_back(path, saved)
    assert names(registry) == ["acme", "other"]


def test_no_change_comes_between_what_is_kept_and_the_restore(
    registry: Registry, path: Path, saved: Path
) -> None:
    stages: list[str] = []

    def note(name: str) -> Report:
        stages.append(name)
        if name == "restoring":
            registry.create_tenant("late", actor="admin")
        if name == "keeping":
            with (
                closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other,
                pytest.raises(sqlite3.OperationalError, match="locked"),
            ):
                other.execute("BEGIN IMMEDIATE")
        return stage(name)

    kept = restore(url_of(path), saved, stage=note).kept
    assert stages == ["checking", "restoring", "keeping"]
    assert kept is not None
    with closing(sqlite3.connect(kept)) as raw:
        rows = raw.execute("SELECT name FROM tenants ORDER BY name").fetchall()
    assert rows == [("acme",), ("late",), ("newer",), ("other",)]


def make_empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5000])


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:60])


def fill(file: Path) -> None:
    file.write_bytes(b"not a database" * 1000)


def damage_a_page(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096 * 3 : 4096 * 4] = os.urandom(4096)
    file.write_bytes(content)


def damage_a_version(file: Path) -> None:
    content = bytearray(file.read_bytes())
    place = content.index(bytes(range(200)))
    content[place + 100] ^= 1
    file.write_bytes(content)


def execute(*statements: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as raw:
            raw.execute("PRAGMA foreign_keys = OFF")
            for statement in statements:
                raw.execute(statement)

    return change


def make_other_programs(file: Path) -> None:
    file.unlink()
    execute("CREATE TABLE tenants (name)")(file)


def make_an_empty_database(file: Path) -> None:
    file.unlink()
    execute("CREATE TABLE x (y)", "DROP TABLE x")(file)


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def delete(file: Path) -> None:
    file.unlink()


def make_link_to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def leave_journal(file: Path) -> None:
    Path(f"{file}-journal").write_bytes(b"x" * 512)


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (make_empty, "is empty"),
    "cut": (cut, "malformed|damaged"),
    "cut in the header": (cut_short, "malformed|not a database"),
    "no database": (fill, "not a database"),
    "damaged page": (damage_a_page, "malformed|damaged"),
    "damaged version": (damage_a_version, "is damaged: the bytes of version 1"),
    "newer": (execute("UPDATE alembic_version SET version_num = 'headstock_9999'"), "newer"),
    "another program's": (make_other_programs, "another program"),
    "empty database": (make_an_empty_database, "empty database"),
    "lost rows": (execute("DELETE FROM tenants"), "belongs to nothing"),
    "lost column": (execute("ALTER TABLE audit DROP COLUMN detail"), "audit has no detail"),
    "trigger": (
        execute("CREATE TRIGGER t AFTER INSERT ON keys BEGIN DELETE FROM audit; END"),
        "another program",
    ),
    "folder": (make_folder, "regular file|directory"),
    "pipe": (make_pipe, "not a regular file"),
    "missing": (delete, "No such file"),
    "link to itself": (make_link_to_itself, "symbolic links"),
    "journal": (leave_journal, "half-written"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_sound_registry_is_not_restored(
    name: str, registry: Registry, path: Path, saved: Path
) -> None:
    change, said = WRONG[name]
    change(saved)
    head, before = registry.head(), sorted(path.parent.iterdir())
    with pytest.raises(InvalidInput, match=said) as caught:
        bring_back(path, saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert registry.head() == head
    registry.create_tenant("third", actor="admin")
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_the_registry_is_not_restored_from_itself(
    link: Callable[[Path, Path], None], registry: Registry, path: Path
) -> None:
    other = path.with_name("other")
    link(other, path)
    for same in (path, other):
        with pytest.raises(InvalidInput, match="the registry itself"):
            bring_back(path, same)
    assert names(registry) == ["acme", "other"]


def test_a_copy_with_its_log_is_restored_with_it(
    registry: Registry, path: Path, saved: Path, tmp_path: Path
) -> None:
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", tmp_path / f"copy{suffix}")
    registry.create_tenant("third", actor="admin")
    bring_back(path, tmp_path / "copy")
    assert names(registry) == ["acme", "newer", "other"]
    shutil.copy(saved, tmp_path / "copy")
    with pytest.raises(InvalidInput, match="belongs to another database"):
        bring_back(path, tmp_path / "copy")


def test_a_registry_is_restored_where_there_is_none(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "registry.db"
    assert bring_back(path, saved).kept is None
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Registry.open(url_of(path)) as registry:
        assert names(registry) == ["acme", "other"]
        registry.create_tenant("third", actor="admin")


def test_an_older_backup_is_brought_up_to_date(registry: Registry, path: Path, saved: Path) -> None:
    execute(
        "DROP TABLE uploads",
        "DROP TABLE parts",
        "ALTER TABLE versions DROP COLUMN upload",
        "DROP TABLE history",
        "DROP TABLE quotas",
        "ALTER TABLE adapters DROP COLUMN last_version",
        "UPDATE alembic_version SET version_num = 'headstock_0003'",
    )(saved)
    bring_back(path, saved)
    assert names(registry) == ["acme", "other"]
    assert registry.get_quota("acme").versions is None


def test_a_backup_with_other_pages_is_restored(registry: Registry, path: Path, saved: Path) -> None:
    execute("PRAGMA page_size = 1024", "VACUUM")(saved)
    bring_back(path, saved)
    assert names(registry) == ["acme", "other"]
    assert registry.read_content(sha256(CONTENT)) == CONTENT
    check(path)


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("spoil", [make_empty, cut, cut_short, fill, damage_a_page, delete])
def test_a_spoilt_registry_is_restored(
    spoil: Callable[[Path], None],
    is_open: bool,
    registry: Registry,
    path: Path,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapters.registry.database._RETRY_S", 0)
    if not is_open:
        registry.close()
    spoil(path)
    if is_open and spoil is not damage_a_page:  # which is not seen before it is read
        with pytest.raises(RegistryUnavailable):
            registry.create_tenant("third", actor="admin")
    restored = bring_back(path, saved)
    assert (restored.kept is None) == (spoil is delete)
    if not is_open:
        registry = Registry.open(url_of(path))
    adopt(registry)
    registry.create_tenant("third", actor="admin")
    assert names(registry) == ["acme", "other", "third"]
    registry.close()
    check(path)


def test_a_log_of_another_state_is_not_applied_at_a_start(
    path: Path, registry: Registry, saved: Path
) -> None:
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{path}.crashed{suffix}")
    registry.close()
    shutil.copy(saved, path)
    shutil.copy(f"{path}.crashed-wal", f"{path}-wal")
    for _ in range(2):
        with pytest.raises(HeadstockError, match="headstock registry restore"):
            Registry.open(url_of(path))
    bring_back(path, saved)
    with Registry.open(url_of(path)) as again:
        assert names(again) == ["acme", "other"]
    check(path)


def test_a_file_in_parts_is_saved_and_every_part_is_checked(
    registry: Registry, path: Path, file: Path
) -> None:
    parts = [CONTENT[:1000], CONTENT[1000:]]
    registry.begin_upload("long")
    for number, part in enumerate(parts):
        registry.add_part("long", number, part)
    publish(registry, CONTENT, upload="long")
    make_backup(path, file)
    opened = file.parent.parent / "opened"
    shutil.copy(file, opened)
    with Registry.open(url_of(opened)) as copy:
        assert copy.read_content(sha256(CONTENT)) == CONTENT
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("DELETE FROM parts WHERE number = 0")
        raw.commit()
    with pytest.raises(InvalidInput, match="bytes of version 1"):
        bring_back(path, file)
