"""What a body is lent, when it is refused, and that all of it is given back."""

import pytest

from adapters.errors import Overloaded, TenantOverloaded
from service.access import Principal
from service.settings import Settings
from service.uploads import Account, Budgets, ByteBudget

ACME = Principal("k1", "acme", frozenset({"publish"}))
ACME_TOO = Principal("k2", "acme", frozenset({"publish"}))
OTHER = Principal("k3", "other", frozenset({"publish"}))
MORE = Principal("k4", "more", frozenset({"publish"}))


def test_all_keys_of_a_tenant_share_its_part() -> None:
    budget = ByteBudget(256, "uploads")
    with Account(ACME) as first, Account(ACME_TOO) as second:
        first.cover(budget, 64)
        second.cover(budget, 64)
        with Account(ACME) as third, pytest.raises(TenantOverloaded, match="128 bytes"):
            third.cover(budget, 64)
        with Account(OTHER) as other:
            other.cover(budget, 64)
        assert budget.lent == 128
    assert budget.lent == 0


def test_what_does_not_fit_is_refused_for_the_servers_sake() -> None:
    budget = ByteBudget(256, "uploads")
    with Account(ACME) as acme, Account(OTHER) as other, Account(MORE) as more:
        acme.cover(budget, 200)
        other.cover(budget, 50)
        with pytest.raises(Overloaded, match="250 bytes") as caught:
            more.cover(budget, 50)
        assert not isinstance(caught.value, TenantOverloaded)
        assert caught.value.retry_after_s >= 1


def test_a_body_of_unknown_length_is_lent_in_steps_and_no_more_than_once() -> None:
    budget = ByteBudget(2560, "uploads")
    with Account(ACME) as account:
        lent = []
        for size in (1, 2, 3, 11, 12, 100, 50):
            account.cover(budget, size)
            lent.append(budget.lent)
        assert lent == [1, 11, 11, 11, 21, 100, 100]
    assert budget.lent == 0


def test_files_and_json_do_not_take_from_each_other() -> None:
    budgets = Budgets(Settings(max_upload_bytes=1024, max_body_bytes=2048))
    assert (budgets.uploads.total, budgets.bodies.total) == (4 * 1024, 16 * 2048)
    with Account(ACME) as account:
        account.cover(budgets.uploads, 4096)
        account.cover(budgets.bodies, 2048)
        assert (budgets.uploads.free, budgets.bodies.free) == (0, 15 * 2048)
