import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, exc, insert, text
from sqlalchemy.engine import Engine

from adapters.errors import InvalidInput, RegistryUnavailable
from adapters.registry import Registry, sqlite
from adapters.registry.database import Database
from adapters.registry.tables import keys, metadata, tenants
from tests.unit.registry.support import START, Clock, publish, url_of


def test_the_file_and_its_folder_are_private(empty: Registry, path: Path) -> None:
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    with Registry.open(url_of(path)) as registry:
        registry.create_tenant("acme", actor="admin")
        publish(registry, b"one", activate=True)
        before = registry.read_tenants()
    with Registry.open(url_of(path)) as registry:
        assert registry.read_tenants() == before


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Registry.open("sqlite:///here/registry.db") as registry:
        monkeypatch.chdir("/")
        registry.create_tenant("acme", actor="admin")
    assert (tmp_path / "here" / "registry.db").exists()


def test_odd_paths(tmp_path: Path) -> None:
    with Registry.open(url_of(tmp_path / "100% ünï 'x'" / "registry.db")) as registry:
        registry.create_tenant("acme", actor="admin")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?uri=true",
        "sqlite:///x.db?mode=ro",
        "sqlite://folder/x.db",
        "sqlite://folder:x/x.db",
        "sqlite+aiosqlite:///x.db",
        "postgresql://user:hunter2@host/db",
        "nonsense://x",
    ],
)
def test_urls_that_name_no_sqlite_file(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Registry.open(url)
    assert "hunter2" not in str(caught.value)


def test_settings_of_every_connection(path: Path) -> None:
    opened = Database.open(url_of(path))
    with opened.read() as first, opened.read() as second:
        for connection in (first, second):
            values = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
            assert values == ["wal", 2, 1, 3_000]
    opened.close()


def test_foreign_keys_are_enforced(path: Path) -> None:
    opened = Database.open(url_of(path))
    row = {"id": "a" * 12, "tenant_id": 7, "secret_sha256": "", "scopes": "", "created_at": START}
    with pytest.raises(exc.IntegrityError), opened.write() as connection:
        connection.execute(insert(keys).values(row))
    opened.close()


def test_the_migrations_make_the_tables(path: Path) -> None:
    opened = Database.open(url_of(path))
    with opened.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        stored = connection.scalar(text("SELECT sql FROM sqlite_master WHERE name = 'audit'"))
    assert "AUTOINCREMENT" in str(stored)
    opened.close()


def test_a_read_transaction_sees_one_moment(path: Path) -> None:
    opened = Database.open(url_of(path))
    count = text("SELECT count(*) FROM tenants")
    with Registry.open(url_of(path)) as registry, opened.read() as connection:
        assert connection.scalar(count) == 0
        registry.create_tenant("acme", actor="admin")
        assert connection.scalar(count) == 0
    with opened.read() as connection:
        assert connection.scalar(count) == 1
    opened.close()


def test_a_failed_write_leaves_nothing(path: Path) -> None:
    opened = Database.open(url_of(path))
    with pytest.raises(exc.IntegrityError), opened.write() as connection:
        add_twice(connection)
    with opened.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM tenants")) == 0
    opened.close()


def test_a_naive_time_is_refused(path: Path) -> None:
    opened = Database.open(url_of(path))
    naive = START.replace(tzinfo=None)
    with pytest.raises(exc.StatementError, match="naive"), opened.write() as connection:
        connection.execute(insert(keys).values(id="a" * 12, created_at=naive))
    opened.close()


def test_a_file_of_a_newer_headstock(path: Path) -> None:
    Registry.open(url_of(path)).close()
    execute(path, "UPDATE alembic_version SET version_num = 'headstock_9999'")
    with pytest.raises(RegistryUnavailable, match="newer Headstock") as caught:
        Registry.open(url_of(path))
    assert str(path) in str(caught.value)


def test_a_file_of_another_program(path: Path) -> None:
    path.parent.mkdir()
    execute(path, "CREATE TABLE tenants (x)")
    with pytest.raises(RegistryUnavailable, match="another program") as caught:
        Registry.open(url_of(path))
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(RegistryUnavailable, match="not an SQLite database") as caught:
        Registry.open(url_of(path))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"not a database" * 1000


def test_a_folder_in_the_place_of_the_file(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(RegistryUnavailable, match="cannot be opened"):
        Registry.open(url_of(path))


def test_a_file_in_the_place_of_the_folder(path: Path) -> None:
    path.parent.write_text("")
    with pytest.raises(RegistryUnavailable, match="cannot be made") as caught:
        Registry.open(url_of(path))
    assert str(path) in str(caught.value)


def test_a_lock_held_by_another_process(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    with Registry.open(url_of(path), clock=clock) as registry:
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryUnavailable, match="locked; try again") as caught:
            registry.create_tenant("acme", actor="admin")
        assert "BEGIN" not in str(caught.value)
        assert registry.list_tenants() == []
        holder.close()
        registry.create_tenant("acme", actor="admin")


def test_opening_waits_for_another_process_that_makes_the_file(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.05, other.close)
    release.start()
    Registry.open(url_of(path)).close()
    release.join()


@pytest.mark.parametrize("vfs", ["unix-none", "unix-dotfile"])
def test_a_file_system_without_shared_memory_is_named_with_the_remedy(
    vfs: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite keeps its other journal there, and says so in its answer alone."""

    def connect_there(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{path}?vfs={vfs}", isolation_level=None, uri=True)

    monkeypatch.setattr("adapters.registry.opened.connect", connect_there)
    with pytest.raises(RegistryUnavailable) as caught:
        Registry.open(url_of(path))
    assert str(caught.value).startswith(
        f"the registry's database {path} cannot be used: its file system cannot share memory"
    )
    assert "put it on a local disk, with HEADSTOCK_HOME or HEADSTOCK_DATABASE_URL" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("name", "is_no_wal"),
    [
        *[(f"SQLITE_IOERR_{each}", True) for each in ("SHMMAP", "SHMOPEN", "SHMLOCK", "LOCK")],
        ("SQLITE_PROTOCOL", True),
        *[(f"SQLITE_IOERR_{each}", False) for each in ("READ", "WRITE", "FSYNC", "SHORT_READ")],
        ("SQLITE_FULL", False),
        ("SQLITE_BUSY", False),
    ],
)
def test_errors_of_shared_memory_and_locks_are_told_from_those_of_disks(
    name: str, is_no_wal: bool
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name
    assert ("its file system cannot share memory" in sqlite.reason(error)) is is_no_wal


def test_a_writer_that_never_gets_its_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    opened = Database.open(url_of(path))
    with opened.write(), pytest.raises(RegistryUnavailable, match="too much to do"):  # noqa: SIM117
        with opened.write():
            pass
    opened.close()


def test_a_full_pool(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    opened = Database.open(url_of(path))

    def refuse(*_: object) -> None:
        raise exc.TimeoutError("QueuePool limit")

    event.listen(Engine, "engine_connect", refuse)
    try:
        with pytest.raises(RegistryUnavailable, match="too much to do"), opened.read():
            pass
    finally:
        event.remove(Engine, "engine_connect", refuse)
    opened.close()


def add_twice(connection: Connection) -> None:
    for _ in range(2):
        connection.execute(insert(tenants).values(name="acme", created_at=START))


def execute(path: Path, statement: str) -> None:
    raw = sqlite3.connect(path)
    raw.execute(statement)
    raw.commit()
    raw.close()
