"""Databases of earlier schemas become those of today with all that is in them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from adapters.registry import Registry, migrate
from tests.unit.registry.support import publish, url_of

COLUMNS = {
    "tenants": "id, name, created_at",
    "keys": "id, tenant_id, secret_sha256, scopes, created_at, revoked_at",
    "adapters": "id, tenant_id, name",
    "versions": "id, adapter_id, number, digest, backbone, size, created_at, manifest, content",
    "releases": "*",
    "audit": "*",
}


@pytest.fixture
def first(path: Path) -> Path:
    """A database of the first schema with rows in every table."""
    path.parent.mkdir()
    with Registry.open(url_of(path)) as registry:
        registry.ensure_admin_key()
        for name in ("acme", "other"):
            registry.create_tenant(name, actor="admin")
            registry.create_key(name, ["predict"], actor="admin")
            publish(registry, name.encode(), tenant=name, activate=True)
    with closing(sqlite3.connect(path)) as raw:
        rows = {table: read(raw, table) for table in COLUMNS}
    path.unlink()
    move(path, "headstock_0001")
    with closing(sqlite3.connect(path)) as raw, raw:
        for table, values in rows.items():
            marks = ", ".join("?" * len(values[0]))
            names = "" if COLUMNS[table] == "*" else f"({COLUMNS[table]})"
            raw.executemany(f"INSERT INTO {table} {names} VALUES ({marks})", values)
    return path


def test_a_first_database_is_brought_up_with_its_rows(first: Path) -> None:
    with closing(sqlite3.connect(first)) as raw:
        assert "feature_cache" not in tenants_sql(raw)
        before = {table: read(raw, table) for table in COLUMNS}
    with Registry.open(url_of(first)) as registry:
        snapshot = registry.read_tenants()
        assert {name: len(each.keys) for name, each in snapshot.tenants.items()} == {
            "acme": 1,
            "other": 1,
        }
        assert all(len(each.releases) == 1 for each in snapshot.tenants.values())
        assert all(each.feature_cache == "off" for each in snapshot.tenants.values())
        assert registry.set_feature_cache("acme", "own", actor="admin") == "own"
        registry.create_tenant("third", actor="admin")
        assert registry.get_feature_cache("third") == "off"
        assert publish(registry, b"the next").version.number == 2
    with closing(sqlite3.connect(first)) as raw:
        assert {table: read(raw, table)[: len(before[table])] for table in COLUMNS} == before
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("start", ["empty", "first"])
def test_the_database_refuses_a_mode_that_is_none(
    start: str, path: Path, request: pytest.FixtureRequest
) -> None:
    if start == "first":
        request.getfixturevalue("first")
    with Registry.open(url_of(path)) as registry:
        registry.create_tenant("new", actor="admin")
    with closing(sqlite3.connect(path)) as raw:
        for wrong in ("'on'", "''", "'OWN'", "NULL"):
            with pytest.raises(sqlite3.IntegrityError, match="feature_cache"):
                raw.execute(f"UPDATE tenants SET feature_cache = {wrong}")


def test_a_migration_can_be_taken_back(first: Path) -> None:
    with closing(sqlite3.connect(first)) as raw:
        before = (tenants_sql(raw), {table: read(raw, table) for table in COLUMNS})
    Registry.open(url_of(first)).close()
    move(first, "headstock_0001")
    with closing(sqlite3.connect(first)) as raw:
        assert (tenants_sql(raw), {table: read(raw, table) for table in COLUMNS}) == before


def move(path: Path, revision: str) -> None:
    """Bring a database's tables up or down to a revision."""
    config = Config()
    folder = Path(migrate.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    engine = create_engine(url_of(path))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        is_there = path.stat().st_size > 0
        (command.downgrade if is_there else command.upgrade)(config, revision)
    engine.dispose()


def read(raw: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return raw.execute(f"SELECT {COLUMNS[table]} FROM {table} ORDER BY 1").fetchall()


def tenants_sql(raw: sqlite3.Connection) -> str:
    [(sql,)] = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'tenants'").fetchall()
    return str(sql)
