import pytest

from adapters.errors import Conflict, NotFound, StaleRevision
from adapters.registry import ExpectedRevision, Registry, Release
from tests.unit.registry.support import START, Clock, publish


@pytest.fixture
def released(registry: Registry) -> Registry:
    """acme/intents with versions 1 to 4 and no release."""
    for n in range(4):
        publish(registry, bytes([n]))
    return registry


def set_stable(registry: Registry, stable: int, expected: ExpectedRevision = None) -> Release:
    return registry.set_release(
        "acme", "intents", stable, expected_revision=expected, actor="tester"
    )


def rollback(registry: Registry, expected: ExpectedRevision = None) -> Release:
    return registry.rollback("acme", "intents", expected_revision=expected, actor="tester")


def test_each_change_is_a_new_revision(released: Registry, clock: Clock) -> None:
    assert set_stable(released, 2) == Release(1, 2, None, START)
    clock.advance()
    assert set_stable(released, 1) == Release(2, 1, 1, clock.now)
    assert released.get_release("acme", "intents") == Release(2, 1, 1, clock.now)


def test_setting_the_stable_version_changes_nothing(released: Registry) -> None:
    release = set_stable(released, 2)
    head = released.head()
    assert set_stable(released, 2) == release
    assert set_stable(released, 2, expected=1) == release
    assert released.head() == head


def test_compare_and_set(released: Registry) -> None:
    with pytest.raises(StaleRevision, match="revision 0, not 1"):
        set_stable(released, 1, expected=1)
    set_stable(released, 1, expected=0)
    with pytest.raises(StaleRevision, match="revision 1, not 0"):
        set_stable(released, 2, expected=0)
    set_stable(released, 2, expected=1)
    # Stale is stale, also where the outcome would be the same.
    with pytest.raises(StaleRevision, match="revision 2, not 1"):
        set_stable(released, 2, expected=1)
    with pytest.raises(StaleRevision, match="revision 2, not 1"):
        rollback(released, expected=1)
    assert rollback(released, expected=2).stable == 1
    assert set_stable(released, 3, expected=frozenset({1, 3})).stable == 3
    with pytest.raises(StaleRevision, match="revision 4, not 1 or 3"):
        rollback(released, expected=frozenset({3, 1}))


def test_unknown_things(released: Registry) -> None:
    for number in (0, 5, 10**30):
        with pytest.raises(NotFound, match="no version"):
            set_stable(released, number)
    with pytest.raises(NotFound, match="no adapter"):
        released.set_release("acme", "missing", 1, actor="tester")
    with pytest.raises(NotFound, match="no adapter"):
        released.rollback("other", "intents", actor="tester")


def test_nothing_to_go_back_to(released: Registry) -> None:
    with pytest.raises(Conflict, match="no earlier release"):
        rollback(released)
    set_stable(released, 3)
    with pytest.raises(Conflict, match="no earlier release"):
        rollback(released)


def test_rollbacks_walk_back(released: Registry) -> None:
    for stable in (1, 2, 3):
        set_stable(released, stable)
    assert rollback(released) == Release(4, 2, 1, START)
    assert rollback(released) == Release(5, 1, None, START)
    with pytest.raises(Conflict):
        rollback(released)


def test_a_change_after_a_rollback_goes_back_to_it(released: Registry) -> None:
    for stable in (1, 2, 3):
        set_stable(released, stable)
    rollback(released)
    set_stable(released, 4)
    assert [rollback(released).stable for _ in range(2)] == [2, 1]


def test_audit_tells_what_changed(released: Registry) -> None:
    set_stable(released, 1)
    set_stable(released, 2)
    rollback(released)
    newest = released.list_audit("acme", limit=3)
    assert [(row.action, row.detail["stable"], row.detail["previous"]) for row in newest] == [
        ("release.rollback", 1, 2),
        ("release.set", 2, 1),
        ("release.set", 1, None),
    ]
