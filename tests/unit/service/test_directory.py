from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adapters.errors import NotFound
from adapters.registry import Snapshot, TenantState
from service.directory import Directory
from tests.unit.service.support import key, mark, release, snapshot, tenant

START = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def directory() -> Directory:
    directory = Directory()
    directory.update(
        snapshot(
            5,
            (key("root0000", "admin"),),
            acme=tenant(key("acmekey1", "predict"), releases=[release("intents", "d1")]),
            other=tenant(key("otherkey", "publish"), releases=[release("intents", "d2")]),
        )
    )
    return directory


def test_a_key_is_found_with_its_tenant(directory: Directory) -> None:
    found = directory.key("acmekey1")
    assert found == ("acme", key("acmekey1", "predict"))
    assert directory.key("root0000") == (None, key("root0000", "admin"))
    assert directory.key("unknown0") is None


def test_a_release_is_found_by_tenant_and_adapter(directory: Directory) -> None:
    assert directory.release("acme", "intents").digest == "d1"
    assert directory.release("other", "intents").digest == "d2"
    assert directory.mark == mark(5)


def test_what_is_not_there_is_not_found(directory: Directory) -> None:
    with pytest.raises(NotFound, match="no tenant 'nobody'"):
        directory.release("nobody", "intents")
    with pytest.raises(NotFound, match="no adapter 'unreleased'"):
        directory.release("acme", "unreleased")


def test_an_unknown_tenant_has_no_releases(directory: Directory) -> None:
    assert directory.releases("nobody") == {}


def test_adapters_that_have_no_release_any_more_are_forgotten() -> None:
    forgotten = list[tuple[str, str]]()
    directory = Directory(forget_adapter=lambda *name: forgotten.append(name))
    both = [release("intents", "d1"), release("topics", "d2")]
    directory.update(snapshot(1, acme=tenant(releases=both), other=tenant(releases=both[:1])))
    directory.update(snapshot(2, acme=tenant(releases=[release("topics", "d3", 2)])))
    assert forgotten == [("acme", "intents")]
    directory.replace(snapshot(3, acme=tenant(releases=[both[0], release("topics", "d2", 3)])))
    assert forgotten == [("acme", "intents"), ("other", "intents")]
    # One that was deleted and made anew between two looks begins with its first release.
    directory.update(snapshot(4, acme=tenant(releases=[both[0], release("topics", "d4", 1)])))
    assert forgotten[2:] == [("acme", "topics")]


def test_a_tenant_that_was_sought_and_is_not_there_is_gone(directory: Directory) -> None:
    gone = list[str]()
    directory.when_gone(gone.append)
    state = TenantState((), {}, made=(1, START))
    directory.update(snapshot(6, third=state))
    assert directory.update(snapshot(7), ["acme", "third", "never"]) == {"d1"}
    assert set(directory.tenants()) == {"other"}
    assert directory.key("acmekey1") is None
    assert gone == ["third"]
    directory.update(snapshot(8, third=state))
    directory.update(snapshot(9, third=replace(state, made=(1, START + timedelta(1)))))
    assert gone == ["third", "third"]


def test_an_update_changes_its_tenants_and_leaves_the_others(directory: Directory) -> None:
    directory.update(
        snapshot(
            6,
            (key("root0000", "admin"),),
            acme=tenant(key("acmekey2", "predict"), releases=[release("intents", "d3", 2)]),
        )
    )
    assert directory.mark == mark(6)
    assert directory.release("acme", "intents").number == 2
    assert directory.release("other", "intents").digest == "d2"
    assert directory.key("otherkey") is not None


def test_a_key_that_an_update_lacks_is_revoked(directory: Directory) -> None:
    directory.update(snapshot(6, (), acme=tenant(key("acmekey2", "predict"))))
    assert directory.key("acmekey1") is None
    assert directory.key("acmekey2") is not None
    assert directory.key("root0000") is None


def test_a_release_that_an_update_lacks_is_gone(directory: Directory) -> None:
    directory.update(snapshot(6, (), acme=tenant()))
    with pytest.raises(NotFound):
        directory.release("acme", "intents")
    assert directory.releases("acme") == {}


def test_a_version_is_released_while_anybody_names_it() -> None:
    directory = Directory()
    shared = [release("one", "d1"), release("two", "d1")]
    directory.update(snapshot(1, (), acme=tenant(releases=shared)))
    directory.update(snapshot(2, (), other=tenant(releases=[release("one", "d1")])))
    assert directory.is_released("d1")
    assert not directory.is_released("d2")
    directory.update(snapshot(3, (), acme=tenant(releases=[release("one", "d2")])))
    assert directory.is_released("d1")
    assert directory.is_released("d2")
    directory.update(snapshot(4, (), other=tenant()))
    assert not directory.is_released("d1")
    assert directory.is_released("d2")


def test_the_same_update_twice_counts_once(directory: Directory) -> None:
    same = snapshot(6, (), acme=tenant(releases=[release("intents", "d1")]))
    directory.update(same)
    directory.update(same)
    directory.update(snapshot(7, (), acme=tenant()))
    assert not directory.is_released("d1")


def test_what_a_snapshot_of_everything_lacks_is_gone(directory: Directory) -> None:
    acme = tenant(key("acmekey1", "predict"), releases=[release("intents", "d1")])
    assert directory.replace(snapshot(3, (), acme=acme)) == {"d2"}
    assert directory.mark == mark(3)
    assert directory.key("acmekey1") is not None
    assert directory.key("otherkey") is None
    assert directory.key("root0000") is None
    assert directory.releases("other") == {}
    with pytest.raises(NotFound, match="no tenant 'other'"):
        directory.release("other", "intents")


def test_an_update_tells_which_versions_nobody_names_any_more(directory: Directory) -> None:
    swapped = tenant(releases=[release("intents", "d2", 2)])
    assert directory.update(snapshot(6, (), acme=swapped)) == {"d1"}
    assert directory.update(snapshot(7, (), other=tenant())) == set()
    assert directory.update(snapshot(8, (), acme=tenant())) == {"d2"}


def test_the_mode_of_the_feature_cache_follows_and_is_off_for_nobody(directory: Directory) -> None:
    assert directory.cache_mode("acme") == "off"
    assert directory.cache_mode("nobody") == "off"
    directory.update(snapshot(6, (), acme=tenant(feature_cache="shared")))
    assert directory.cache_mode("acme") == "shared"
    assert directory.cache_mode("other") == "off"
    directory.replace(snapshot(7, (), other=tenant(feature_cache="own")))
    assert directory.cache_mode("acme") == "off"
    assert directory.cache_mode("other") == "own"


def test_what_was_kept_for_a_tenant_alone_is_forgotten_when_it_may_not_be_kept() -> None:
    forgotten: list[str] = []
    directory = Directory(forgotten.append)
    own, shared, off = (tenant(feature_cache=mode) for mode in ("own", "shared", "off"))
    directory.update(snapshot(1, (), acme=own, other=own, third=own, fourth=shared))
    directory.update(snapshot(2, (), acme=own, fourth=off))
    assert forgotten == []
    directory.update(snapshot(3, (), acme=off))
    assert forgotten == ["acme"]
    directory.update(snapshot(4, (), acme=off, other=shared))
    assert forgotten == ["acme", "other"]
    directory.replace(snapshot(5, (), acme=off))
    assert forgotten == ["acme", "other", "third"]


def test_in_another_history_a_tenant_of_the_same_name_is_another_one() -> None:
    forgotten: list[str] = []
    directory = Directory(forgotten.append)
    own, shared = (tenant(feature_cache=mode) for mode in ("own", "shared"))
    directory.replace(snapshot(1, (), acme=own, other=shared))
    directory.replace(snapshot(2, (), acme=own, other=shared))
    assert forgotten == []
    directory.replace(Snapshot(mark(2, "b" * 32), {"acme": own}, ()))
    assert forgotten == ["acme"]
