"""What is deleted is gone with all that it had, and a name that comes back has none of it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Barrier, Thread

import pytest

from adapters.errors import Conflict, NotFound, Unauthenticated
from adapters.registry import Quota, Registry
from adapters.registry.backup import backup
from tests.unit.registry.support import BACKBONE, Clock, publish, sha256, url_of

PART = 2**20


def numbers(registry: Registry, adapter: str = "intents") -> list[int]:
    return [each.number for each in registry.list_versions("acme", adapter)]


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as raw:
        [found] = raw.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found)


def publish_in_parts(registry: Registry, content: bytes) -> int:
    registry.begin_upload("u")
    for number, start in enumerate(range(0, len(content), PART)):
        registry.add_part("u", number, content[start : start + PART])
    return registry.publish(
        "acme",
        "intents",
        digest=sha256(content),
        backbone=BACKBONE,
        manifest="{}",
        content=content,
        activate=False,
        actor="admin",
        upload="u",
    ).version.number


def test_a_version_is_deleted_and_its_number_is_not_given_again(registry: Registry) -> None:
    for content in (b"one", b"two", b"three"):
        publish(registry, content, activate=content == b"one")
    assert registry.delete_version("acme", "intents", 3, actor="admin") == [sha256(b"three")]
    assert numbers(registry) == [1, 2]
    with pytest.raises(NotFound):
        registry.get_version("acme", "intents", 3)
    with pytest.raises(NotFound):
        registry.read_content(sha256(b"three"))
    with pytest.raises(NotFound):
        registry.delete_version("acme", "intents", 3, actor="admin")
    assert publish(registry, b"three").version.number == 4
    [_, row] = registry.list_audit("acme", limit=2)
    assert (row.action, row.adapter, row.detail["digest"]) == (
        "version.delete",
        "intents",
        sha256(b"three"),
    )


def test_a_version_that_is_released_is_not_deleted(registry: Registry) -> None:
    publish(registry, b"one", activate=True)
    with pytest.raises(Conflict, match="release another one first"):
        registry.delete_version("acme", "intents", 1, actor="admin")
    assert registry.read_content(sha256(b"one")) == b"one"


def test_all_versions_of_an_adapter_with_no_release_may_go(registry: Registry) -> None:
    publish(registry, b"one")
    registry.delete_version("acme", "intents", 1, actor="admin")
    [adapter] = registry.list_adapters("acme")
    assert (adapter.latest, adapter.release) == (None, None)
    assert publish(registry, b"one", activate=True).version.number == 2


@pytest.mark.parametrize(
    ("released", "deleted", "walked"),
    [
        ([1, 2, 3], [2], [1]),
        ([1, 2, 3], [1], [2]),
        ([1, 2, 3], [1, 2], []),
        ([1, 2, 1], [2], []),  # it would go from 1 to 1
        ([1, 2, 1, 3], [2], [1]),
        ([1, 2, 3, 2, 4], [3], [2, 1]),
        ([1, 2, 3, 4], [3, 2], [1]),
    ],
)
def test_rollbacks_pass_by_what_was_deleted(
    registry: Registry, released: list[int], deleted: list[int], walked: list[int]
) -> None:
    for number in range(max(released)):
        publish(registry, b"%d" % number)
    for number in released:
        registry.set_release("acme", "intents", number, actor="admin")
    revision = len(released)
    for number in deleted:
        registry.delete_version("acme", "intents", number, actor="admin")
    release = registry.get_release("acme", "intents")
    assert release is not None
    assert (release.stable, release.revision) == (released[-1], revision)
    found = []
    while True:
        try:
            found.append(registry.rollback("acme", "intents", actor="admin").stable)
        except Conflict:
            break
    assert found == walked


def test_an_adapter_goes_with_its_versions_and_its_release(registry: Registry, path: Path) -> None:
    publish(registry, b"one", activate=True)
    publish(registry, b"two", activate=True)
    registry.rollback("acme", "intents", actor="admin")
    publish(registry, b"other", adapter="topics", activate=True)
    assert registry.delete_adapter("acme", "intents", actor="admin") == sorted(
        map(sha256, (b"one", b"two"))
    )
    assert [each.name for each in registry.list_adapters("acme")] == ["topics"]
    assert list(registry.read_tenants().tenants["acme"].releases) == ["topics"]
    assert (count(path, "versions"), count(path, "releases")) == (1, 1)
    with pytest.raises(NotFound):
        registry.delete_adapter("acme", "intents", actor="admin")
    again = publish(registry, b"two")
    assert (again.version.number, again.release) == (1, None)


def test_a_tenant_goes_with_all_that_it_has(registry: Registry, path: Path) -> None:
    registry.set_quota("acme", Quota(versions=5), actor="admin")
    registry.set_feature_cache("acme", "own", actor="admin")
    info, _ = registry.create_key("acme", ["predict", "publish"], actor="admin")
    publish(registry, b"one", activate=True)
    publish(registry, b"two", adapter="topics")
    before = registry.read_tenants().tenants["acme"]
    registry.delete_tenant("acme", actor="admin")
    for table in ("adapters", "versions", "releases", "keys", "quotas"):
        assert count(path, table) == 0
    assert [each.name for each in registry.list_tenants()] == ["other"]
    with pytest.raises(NotFound):
        registry.delete_tenant("acme", actor="admin")
    with pytest.raises(NotFound):
        registry.list_audit("acme")
    with pytest.raises(Unauthenticated):
        registry.create_tenant("late", actor=info.id)
    [row] = registry.list_audit(limit=1)
    assert (row.action, row.tenant) == ("tenant.delete", "acme")
    assert row.detail == {"adapters": 2, "versions": 2, "size": 6}

    registry.create_tenant("acme", actor="admin")
    after = registry.read_tenants().tenants["acme"]
    assert (after.keys, after.releases, after.feature_cache) == ((), {}, "off")
    assert after.quota == Quota()
    assert after.made != before.made
    assert [each.action for each in registry.list_audit("acme")] == ["tenant.create"]
    assert publish(registry, b"one").version.number == 1


def test_a_tenant_that_comes_back_in_the_same_row_is_another_one(
    registry: Registry, clock: Clock
) -> None:
    """SQLite gives the highest row's number again."""
    before = registry.read_tenants().tenants["other"].made
    registry.delete_tenant("other", actor="admin")
    clock.advance()
    registry.create_tenant("other", actor="admin")
    after = registry.read_tenants().tenants["other"].made
    assert before is not None
    assert after is not None
    assert after[0] == before[0]
    assert after != before


def test_bytes_that_another_tenant_has_stay(registry: Registry) -> None:
    for tenant in ("acme", "other"):
        publish(registry, b"the same", tenant=tenant)
    assert registry.delete_tenant("acme", actor="admin") == []
    assert registry.read_content(sha256(b"the same")) == b"the same"
    assert registry.delete_tenant("other", actor="admin") == [sha256(b"the same")]


@pytest.mark.parametrize("how", ["version", "adapter", "tenant"])
def test_parts_go_with_their_version_and_their_room_is_used_again(
    registry: Registry, path: Path, how: str
) -> None:
    def pages() -> int:
        with closing(sqlite3.connect(path)) as raw:
            return int(raw.execute("PRAGMA page_count").fetchone()[0])

    sizes = []
    for turn in range(4):
        number = publish_in_parts(registry, bytes([turn]) * (5 * PART))
        sizes.append(pages())
        if how == "version":
            registry.delete_version("acme", "intents", number, actor="admin")
        elif how == "adapter":
            registry.delete_adapter("acme", "intents", actor="admin")
        else:
            registry.delete_tenant("acme", actor="admin")
            registry.create_tenant("acme", actor="admin")
        assert count(path, "parts") == 0
    assert max(sizes) - sizes[0] < 10
    assert registry.holdings("acme").bytes == 0


def test_a_backup_holds_nothing_of_what_was_deleted(
    registry: Registry, path: Path, tmp_path: Path
) -> None:
    secret = b"a customer's words " * 1000
    publish(registry, secret)
    registry.delete_adapter("acme", "intents", actor="admin")
    copy = tmp_path / "copy.sqlite"
    backup(url_of(path), copy, replace=False, stage=lambda _: lambda *_: None)
    assert b"customer's words" not in copy.read_bytes()
    with Registry.open(url_of(copy)) as restored:
        assert [each.name for each in restored.list_tenants()] == ["acme", "other"]


def race(path: Path, adapter: str) -> list[str]:
    """Delete version 2 and release it, at once, by two registries; returns what was done."""
    barrier, outcomes = Barrier(2), list[str]()

    def act(name: str) -> None:
        with Registry.open(url_of(path)) as another:
            barrier.wait(10)
            try:
                if name == "delete":
                    another.delete_version("acme", adapter, 2, actor="admin")
                else:
                    another.set_release("acme", adapter, 2, actor="admin")
            except (Conflict, NotFound):
                return
            outcomes.append(name)

    threads = [Thread(target=act, args=(name,)) for name in ("delete", "release")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return outcomes


def test_of_a_delete_and_a_release_at_once_one_is_refused(registry: Registry, path: Path) -> None:
    for turn in range(10):
        adapter = f"a{turn}"
        publish(registry, b"one", adapter=adapter, activate=True)
        publish(registry, b"two", adapter=adapter)
        outcomes = race(path, adapter)
        release = registry.get_release("acme", adapter)
        assert release is not None
        assert outcomes == (["release"] if release.stable == 2 else ["delete"])


def test_lists_go_on_after_what_came_last(registry: Registry) -> None:
    for name in ("b", "a", "c", "d"):
        registry.create_tenant(name, actor="admin")
        publish(registry, name.encode(), adapter=name)
        publish(registry, name.encode())
    for _ in range(3):
        info, _ = registry.create_key("acme", ["predict"], actor="admin")
        registry.revoke_key("acme", info.id, actor="admin")
    whole = registry.list_tenants()
    assert [each.name for each in whole] == ["a", "acme", "b", "c", "d", "other"]
    assert registry.list_tenants(limit=2, after="acme") == whole[2:4]
    assert registry.list_tenants(after="aa") == whole[1:]  # one that is gone, or never was
    adapters = registry.list_adapters("acme")
    assert registry.list_adapters("acme", limit=2, after="b") == adapters[2:4]
    versions = registry.list_versions("acme", "intents")
    assert registry.list_versions("acme", "intents", limit=2, after=1) == versions[1:3]
    keys = registry.list_keys("acme")
    assert len(keys) == 3
    assert registry.list_keys("acme", limit=1, after=keys[0].id) == keys[1:2]
    with pytest.raises(NotFound):
        registry.list_keys("other", after=keys[0].id)
