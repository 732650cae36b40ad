"""How many requests and tokens a minute a tenant has left: buckets that fill evenly.

Each server counts for itself: behind a balancer of n servers a tenant may have up to n times as
many.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from adapters.errors import RateLimited
from adapters.registry import Quota
from service.directory import Directory

_MINUTE_S = 60.0


@dataclass(slots=True)
class Bucket:
    """Holds a minute's worth, at most; full at first."""

    left: float
    at: float

    def take(self, amount: float, per_minute: int, now: float) -> float:
        """Take an amount, or nothing; how many seconds later there is enough, 0: it was taken."""
        wait_s = self.wait_s(amount, per_minute, now)
        if not wait_s:
            self.left -= amount
        return wait_s

    def wait_s(self, amount: float, per_minute: int, now: float) -> float:
        """How many seconds later an amount can be taken; 0: now.

        More than a minute's worth is let through when the bucket is full, and owed.
        """
        if not per_minute:
            return _MINUTE_S
        rate = per_minute / _MINUTE_S
        self.left = min(per_minute, self.left + (now - self.at) * rate)
        self.at = now
        wanted = min(amount, per_minute)
        return max(0.0, (wanted - self.left) / rate)


_Question = Callable[[Bucket, float, int, float], float]  # a method of a bucket


class Rates:
    """The buckets of all tenants, a pair each, by their quotas."""

    def __init__(self, directory: Directory, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def check_request(self, tenant: str) -> None:
        """Whether a request could be taken. Raises RateLimited."""
        per_minute = self._quota(tenant).requests_per_minute
        self._ask(Bucket.wait_s, tenant, "requests", per_minute, 1)

    def take_request(self, tenant: str) -> None:
        """Count a request, before any work is done for it. Raises RateLimited."""
        self._take(tenant, "requests", self._quota(tenant).requests_per_minute, 1)

    def take_tokens(self, tenant: str, tokens: int) -> None:
        """Count the tokens of a request before they are computed. Raises RateLimited."""
        self._take(tenant, "tokens", self._quota(tenant).tokens_per_minute, tokens)

    def give_back_request(self, tenant: str) -> None:
        """One that was taken, and not let in."""
        self._give_back(tenant, "requests", 1)

    def give_back_tokens(self, tenant: str, tokens: int) -> None:
        """What was taken, and not computed."""
        self._give_back(tenant, "tokens", tokens)

    def forget(self, tenant: str) -> None:
        """Drop the buckets of a tenant that was deleted."""
        for what in ("requests", "tokens"):
            self._buckets.pop((tenant, what), None)

    def _give_back(self, tenant: str, what: str, amount: int) -> None:
        bucket = self._buckets.get((tenant, what))
        if bucket is not None:  # it fills to a minute's worth when it is looked at next
            bucket.left += amount

    def _quota(self, tenant: str) -> Quota:
        return self._directory.quota(tenant)

    def _take(self, tenant: str, what: str, per_minute: int | None, amount: int) -> None:
        self._ask(Bucket.take, tenant, what, per_minute, amount)

    def _ask(
        self, ask: _Question, tenant: str, what: str, per_minute: int | None, amount: int
    ) -> None:
        if per_minute is None:
            return
        now = self._clock()
        bucket = self._buckets.setdefault((tenant, what), Bucket(per_minute, now))
        wait_s = ask(bucket, amount, per_minute, now)
        if wait_s > 0:
            raise RateLimited(
                f"tenant {tenant} has had its {per_minute} {what} a minute; try again in "
                f"{math.ceil(wait_s)} s",
                wait_s,
            )
