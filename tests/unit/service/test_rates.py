"""Buckets of requests and tokens: what is in them, and what comes back when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import RateLimited
from adapters.registry import Quota, Snapshot, TenantState
from service.directory import Directory
from service.rates import Bucket, Rates
from tests.unit.service.support import mark


def rates(quota: Quota) -> tuple[Rates, list[float]]:
    """Rates of the tenant acme, and the clock in a list."""
    directory, now = Directory(), [100.0]
    directory.update(Snapshot(mark(1), {"acme": TenantState((), {}, quota=quota)}, ()))
    return Rates(directory, lambda: now[0]), now


def test_a_minutes_worth_may_come_at_once_and_the_rest_evenly() -> None:
    found, now = rates(Quota(requests_per_minute=60))
    for _ in range(60):
        found.take_request("acme")
    with pytest.raises(RateLimited, match="60 requests a minute") as caught:
        found.take_request("acme")
    assert caught.value.retry_after_s == pytest.approx(1)
    now[0] += 1
    found.take_request("acme")
    with pytest.raises(RateLimited):
        found.take_request("acme")
    now[0] += 1000
    for _ in range(60):
        found.take_request("acme")
    with pytest.raises(RateLimited):
        found.take_request("acme")


def test_tokens_are_counted_for_themselves() -> None:
    found, now = rates(Quota(requests_per_minute=1000, tokens_per_minute=600))
    found.take_tokens("acme", 500)
    with pytest.raises(RateLimited, match="600 tokens a minute") as caught:
        found.take_tokens("acme", 200)
    assert caught.value.retry_after_s == pytest.approx(10)
    found.take_request("acme")
    found.take_tokens("acme", 100)  # what was refused was not taken
    now[0] += 60
    found.take_tokens("acme", 5000)  # more than a minute has: when all is there, and owed
    now[0] += 60
    with pytest.raises(RateLimited) as caught:
        found.take_tokens("acme", 1)
    assert caught.value.retry_after_s > 300


def test_a_limit_of_nothing_lets_nothing_through() -> None:
    found, _ = rates(Quota(requests_per_minute=0))
    with pytest.raises(RateLimited):
        found.take_request("acme")


def test_who_has_no_limits_is_not_counted() -> None:
    found, _ = rates(Quota(requests_per_minute=1))
    for tenant in ("other", "nobody", ""):
        for _ in range(100):
            found.take_request(tenant)
            found.take_tokens(tenant, 10**9)
    assert found._buckets == {}


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 120), st.integers(0, 2000)), max_size=60),
)
def test_no_more_goes_through_than_a_minutes_worth_and_what_came_back(
    per_minute: int, asked: list[tuple[float, int]]
) -> None:
    bucket, now, taken, largest = Bucket(per_minute, 0.0), 0.0, 0, 0
    for pause, amount in asked:
        now += pause
        wait_s = bucket.take(amount, per_minute, now)
        assert wait_s >= 0
        if wait_s == 0:
            taken, largest = taken + amount, max(largest, amount)
        else:  # what is told is true
            again = Bucket(bucket.left, bucket.at)
            assert again.take(amount, per_minute, now + wait_s * 1.000001 + 1e-6) == 0
    assert taken <= per_minute * (1 + now / 60) + largest + 1e-6
