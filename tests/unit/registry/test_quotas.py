"""What a tenant may have at most holds in the transaction that would go beyond it."""

import threading
from pathlib import Path

import pytest

from adapters.errors import InvalidInput, NotFound, QuotaExceeded
from adapters.registry import Holdings, Quota, Registry
from tests.unit.registry.support import publish, url_of


def test_a_tenant_has_no_limits_until_they_are_set(registry: Registry) -> None:
    assert registry.get_quota("acme") == Quota()
    assert registry.read_tenants().tenants["acme"].quota == Quota()
    wanted = Quota(adapters=2, tokens_per_minute=2**62)
    assert registry.set_quota("acme", wanted, actor="admin") == wanted
    assert registry.get_quota("acme") == wanted
    assert registry.read_tenants(["acme"]).tenants["acme"].quota == wanted
    assert registry.get_quota("other") == Quota()
    registry.set_quota("acme", Quota(bytes=0), actor="admin")
    assert registry.get_quota("acme") == Quota(bytes=0)
    for call in (registry.get_quota, registry.holdings):
        with pytest.raises(NotFound):
            call("nobody")


def test_a_change_of_limits_is_one_row_of_the_audit_trail(registry: Registry) -> None:
    registry.set_quota("acme", Quota(versions=3), actor="boss")
    head = registry.head()
    registry.set_quota("acme", Quota(versions=3), actor="boss")
    assert registry.head() == head
    [row] = registry.list_audit("acme", limit=1)
    assert (row.action, row.actor) == ("tenant.quota", "boss")
    assert row.detail == {
        "adapters": None,
        "versions": 3,
        "bytes": None,
        "requests_per_minute": None,
        "tokens_per_minute": None,
    }


@pytest.mark.parametrize("limit", [-1, 2**62 + 1])
def test_a_limit_that_is_none_is_refused(registry: Registry, limit: int) -> None:
    with pytest.raises(InvalidInput, match="bytes"):
        registry.set_quota("acme", Quota(bytes=limit), actor="admin")
    assert registry.get_quota("acme") == Quota()


@pytest.mark.parametrize(
    ("quota", "said"),
    [
        (Quota(adapters=1), "2 adapters"),
        (Quota(versions=2), "3 versions"),
        (Quota(bytes=9), "11 bytes"),
    ],
)
def test_what_goes_beyond_a_limit_leaves_nothing(
    registry: Registry, quota: Quota, said: str
) -> None:
    publish(registry, b"one", activate=True)
    publish(registry, b"two")
    registry.set_quota("acme", quota, actor="admin")
    head, before = registry.head(), registry.read_tenants()
    with pytest.raises(QuotaExceeded, match=said):
        publish(registry, b"three", adapter="second", activate=True)
    assert (registry.head(), registry.read_tenants()) == (head, before)
    assert registry.holdings("acme") == Holdings(1, 2, 6)
    # What is there already may be sent again, and released.
    publish(registry, b"two", activate=True)
    publish(registry, b"three", tenant="other")
    registry.set_quota("acme", Quota(), actor="admin")
    publish(registry, b"three", adapter="second")
    assert registry.holdings("acme") == Holdings(2, 3, 11)


def test_many_publishers_do_not_pass_a_limit_together(path: Path) -> None:
    with Registry.open(url_of(path)) as registry:
        registry.create_tenant("acme", actor="admin")
        registry.set_quota("acme", Quota(versions=5), actor="admin")
        refused = []

        def work(number: int) -> None:
            try:
                publish(registry, f"content {number}".encode())
            except QuotaExceeded:
                refused.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 7
        assert registry.holdings("acme").versions == 5
