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
        """Take an amount, or nothing; how many seconds later there is enough, 0: it was taken.

        More than a minute's worth is let through when the bucket is full, and owed.
        """
        if not per_minute:
            return _MINUTE_S
        rate = per_minute / _MINUTE_S
        self.left = min(per_minute, self.left + (now - self.at) * rate)
        self.at = now
        wanted = min(amount, per_minute)
        if self.left >= wanted:
            self.left -= amount
            return 0.0
        return (wanted - self.left) / rate


class Rates:
    """The buckets of all tenants, a pair each, by their quotas."""

    def __init__(self, directory: Directory, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def take_request(self, tenant: str) -> None:
        """Count a request, before any work is done for it. Raises RateLimited."""
        self._take(tenant, "requests", self._quota(tenant).requests_per_minute, 1)

    def take_tokens(self, tenant: str, tokens: int) -> None:
        """Count the tokens of a request before they are computed. Raises RateLimited."""
        self._take(tenant, "tokens", self._quota(tenant).tokens_per_minute, tokens)

    def give_back_tokens(self, tenant: str, tokens: int) -> None:
        """What was taken, and not computed."""
        bucket = self._buckets.get((tenant, "tokens"))
        if bucket is not None:  # it fills to a minute's worth when it is looked at next
            bucket.left += tokens

    def _quota(self, tenant: str) -> Quota:
        return self._directory.quota(tenant)

    def _take(self, tenant: str, what: str, per_minute: int | None, amount: int) -> None:
        if per_minute is None:
            return
        now = self._clock()
        bucket = self._buckets.setdefault((tenant, what), Bucket(per_minute, now))
        wait_s = bucket.take(amount, per_minute, now)
        if wait_s > 0:
            raise RateLimited(
                f"tenant {tenant} has had its {per_minute} {what} a minute; try again in "
                f"{math.ceil(wait_s)} s",
                wait_s,
            )
