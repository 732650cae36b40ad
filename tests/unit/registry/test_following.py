import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, insert, select

from adapters.errors import NotFound
from adapters.registry import ActiveRelease, Change, Mark, Registry, TenantState
from adapters.registry.database import Database
from adapters.registry.tables import adapters, keys, releases, tenants, versions
from tests.unit.registry.support import BACKBONE, START, Clock, publish, sha256, url_of


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Every statement that any engine runs, in order."""
    seen: list[str] = []

    def note(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def test_every_change_is_one_row_of_the_feed(empty: Registry) -> None:
    assert empty.head().seq == 0
    assert empty.changes_since(empty.head(), 10) == []
    empty.ensure_admin_key()
    empty.create_tenant("acme", actor="root")
    info, _ = empty.create_key("acme", ["predict"], actor="root")
    publish(empty, b"one", activate=True)
    empty.revoke_key("acme", info.id, actor="root")
    assert empty.head().seq == 6
    history = empty.head().history
    assert empty.changes_since(Mark(0, None, history), 3) == [
        Change(Mark(1, START, history), None),
        Change(Mark(2, START, history), "acme"),
        Change(Mark(3, START, history), "acme"),
    ]
    last = Change(Mark(6, START, history), "acme")
    assert empty.changes_since(Mark(5, START, history), 10) == [last]
    assert empty.changes_since(empty.head(), 10) == []


def test_a_mark_of_another_history_is_told(registry: Registry, clock: Clock) -> None:
    mark = registry.head()
    clock.advance()
    registry.create_tenant("third", actor="admin")
    assert registry.changes_since(mark, 10) == [Change(registry.head(), "third")]
    assert registry.changes_since(replace(mark, at=clock.now), 10) is None
    assert registry.changes_since(replace(mark, seq=mark.seq + 100), 10) is None
    assert registry.changes_since(replace(mark, history="0" * 32), 10) is None


def test_audit_newest_first_by_tenant_and_page(registry: Registry) -> None:
    publish(registry, b"one", activate=True)
    publish(registry, b"two", tenant="other")
    assert [row.seq for row in registry.list_audit()] == [5, 4, 3, 2, 1]
    assert [row.seq for row in registry.list_audit(limit=2, after=5)] == [4, 3]
    assert [row.seq for row in registry.list_audit("acme")] == [4, 3, 1]
    row = registry.list_audit("acme", limit=1, after=4)[0]
    assert (row.at, row.actor, row.action) == (START, "tester", "version.publish")
    assert (row.tenant, row.adapter) == ("acme", "intents")
    assert row.detail == {"version": 1, "digest": sha256(b"one"), "size": 3}
    with pytest.raises(NotFound):
        registry.list_audit("nobody")


def test_snapshot_has_what_routing_needs(registry: Registry) -> None:
    publish(registry, b"one", activate=True)
    publish(registry, b"two", activate=True)
    publish(registry, b"three")
    publish(registry, b"idle", adapter="unreleased")
    info, _ = registry.create_key("acme", ["predict"], actor="admin")
    snapshot = registry.read_tenants()
    assert snapshot.mark == registry.head()
    other = snapshot.tenants["other"]
    assert other == TenantState((), {}, made=other.made)
    acme = snapshot.tenants["acme"]
    assert None not in (acme.made, other.made)
    assert acme.made != other.made
    assert [key.id for key in acme.keys] == [info.id]
    assert acme.releases == {
        "intents": ActiveRelease("intents", 2, 2, sha256(b"two"), BACKBONE),
    }
    assert snapshot.admin_keys == ()


def test_snapshot_of_some(registry: Registry) -> None:
    registry.ensure_admin_key()
    names = ["acme", "acme", "nobody", "Not/A name", *(f"x{n}" for n in range(2000))]
    snapshot = registry.read_tenants(names)
    assert set(snapshot.tenants) == {"acme"}
    assert len(snapshot.admin_keys) == 1
    assert registry.read_tenants([]).tenants == {}


def test_lists_never_read_the_bytes(registry: Registry, statements: list[str]) -> None:
    publish(registry, b"one", activate=True)
    statements.clear()
    registry.list_adapters("acme")
    registry.list_versions("acme", "intents")
    registry.get_version("acme", "intents", 1)
    registry.read_tenants()
    assert statements
    assert not [statement for statement in statements if "content" in statement]


def test_as_many_queries_for_many_tenants_as_for_one(
    registry: Registry, statements: list[str]
) -> None:
    statements.clear()
    registry.read_tenants()
    for_two = len(statements)
    for n in range(20):
        registry.create_tenant(f"t{n}", actor="admin")
        publish(registry, b"one", tenant=f"t{n}", activate=True)
    statements.clear()
    assert len(registry.read_tenants().tenants) == 22
    assert len(statements) == for_two


def test_ten_thousand_tenants(registry: Registry, path: Path) -> None:
    database = Database.open(url_of(path))
    with database.write() as connection:
        fill(connection, 10_000)
    database.close()
    for names in (None, [f"t{n}" for n in range(10_000)]):
        started = time.perf_counter()
        snapshot = registry.read_tenants(names)
        took = time.perf_counter() - started
        states = [state for name, state in snapshot.tenants.items() if name.startswith("t")]
        assert len(states) == 10_000
        assert all(len(state.keys) == len(state.releases) == 1 for state in states)
        # 0.3 s on two cores; the rest is for busy machines.
        assert took < 3


def fill(connection: Connection, number: int) -> None:
    """Tenants t0, t1, … with one key, one adapter, one version and one release each."""
    now = datetime.now(UTC)
    connection.execute(
        insert(tenants), [{"name": f"t{n}", "created_at": now} for n in range(number)]
    )
    query = select(tenants.c.id).where(tenants.c.name.like("t%"))
    ids = connection.scalars(query).all()
    key = {"secret_sha256": "0" * 64, "scopes": "predict", "created_at": now}
    connection.execute(insert(keys), [{"id": f"key{i:09}", "tenant_id": i, **key} for i in ids])
    connection.execute(insert(adapters), [{"id": i, "tenant_id": i, "name": "m"} for i in ids])
    version = {
        "number": 1,
        "backbone": BACKBONE,
        "size": 1000,
        "created_at": now,
        "manifest": "{}",
        "content": b"x" * 1000,
    }
    connection.execute(
        insert(versions), [{"adapter_id": i, "digest": f"{i:064}", **version} for i in ids]
    )
    release = {"revision": 1, "stable": 1, "created_at": now}
    connection.execute(insert(releases), [{"adapter_id": i, **release} for i in ids])
