"""The disk fails under a publish: a clear error, nothing half-written, and all well afterwards."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from adapters.errors import RegistryUnavailable
from adapters.registry import Registry
from tests.unit.registry.support import publish, spawn, url_of

BIG = bytes(range(256)) * 16_000

# A limit on the size of files is a true failure to write, as the kernel reports it.
LIMITED = """
import hashlib, resource, sys
from adapters.errors import RegistryUnavailable
from adapters.registry import Registry

with Registry.open(sys.argv[1]) as registry:
    registry.create_tenant("acme", actor="admin")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    content = bytes(4_000_000)
    try:
        registry.publish(
            "acme", "intents", digest=hashlib.sha256(content).hexdigest(), backbone="b" * 64,
            manifest="{}", content=content, activate=True, actor="child",
        )
    except RegistryUnavailable as error:
        print(error)
"""


@pytest.fixture
def pragmas() -> Iterator[list[str]]:
    """Statements for every new connection; changing the list changes what the next ones run."""
    chosen: list[str] = []

    def run(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in chosen:
            connection.execute(pragma).fetchall()

    event.listen(Engine, "connect", run)
    yield chosen
    event.remove(Engine, "connect", run)


def test_a_full_disk(tmp_path: Path, pragmas: list[str]) -> None:
    pragmas.append("PRAGMA max_page_count = 200")
    with Registry.open(url_of(tmp_path / "registry.db")) as registry:
        registry.create_tenant("acme", actor="admin")
        publish(registry, b"small", activate=True)
        before = registry.read_tenants()
        with pytest.raises(RegistryUnavailable, match="disk is full") as caught:
            publish(registry, BIG, activate=True)
        assert "INSERT" not in str(caught.value)
        assert registry.read_tenants() == before
        assert [version.number for version in registry.list_versions("acme", "intents")] == [1]
        assert publish(registry, b"small too", activate=True).version.number == 2


def test_a_file_that_cannot_be_written(tmp_path: Path, pragmas: list[str]) -> None:
    url = url_of(tmp_path / "registry.db")
    with Registry.open(url) as registry:
        registry.create_tenant("acme", actor="admin")
    pragmas.append("PRAGMA query_only = ON")
    with Registry.open(url) as registry:
        with pytest.raises(RegistryUnavailable, match="cannot be written"):
            publish(registry, BIG)
        assert registry.list_adapters("acme") == []
        assert registry.head().seq == 1


def test_a_write_that_the_kernel_refuses(tmp_path: Path) -> None:
    url = url_of(tmp_path / "registry.db")
    child = spawn(LIMITED, url)
    output = child.communicate(timeout=30)[0]
    assert child.returncode == 0
    assert "cannot be used: the disk" in output
    with Registry.open(url) as registry:
        assert registry.list_adapters("acme") == []
        assert registry.head().seq == 1
        assert publish(registry, BIG, activate=True).version.number == 1


def test_an_error_shows_neither_sql_nor_values(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with Registry.open(url_of(path)) as registry:
        registry.create_tenant("acme", actor="admin")
        raw = sqlite3.connect(path)
        raw.execute("DROP TABLE audit")
        raw.commit()
        raw.close()
        with pytest.raises(RegistryUnavailable) as caught:
            registry.create_key("acme", ["predict"], actor="admin")
    assert "audit" not in str(caught.value)
    # What a log of the cause shows has the statement, but no value of it.
    assert "predict" not in str(caught.value.__cause__)
    with Registry.open(url_of(tmp_path / "other.db")) as registry:
        assert registry.list_tenants() == []
