"""What each version of an adapter has been asked since this server started, and what that took.

For clients that measure, as Triton's perf_analyzer. A metric could not have it: its series would be
as many as adapters.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from service.engine.job import Times

MOST_ADAPTERS = 10_000  # about 10 MB; beyond them those go that were not asked for longest
MOST_VERSIONS = 16  # of one adapter; beyond them the oldest goes
_NS = 1_000_000_000


@dataclass(slots=True)
class Duration:
    """How often something took time, and how much in all, nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count once more."""
        self.count += 1
        self.ns += round(seconds * _NS)


@dataclass(slots=True)
class VersionStatistics:
    """Counts of one version: requests that were answered, and that failed once it was found.

    `success` is the time of the whole request, and the others its parts: making rows, their wait,
    backbone and heads, and the rest. `runs` are the batches in which rows of it were computed.
    """

    last_ms: int = 0  # when it was asked last, Unix time
    rows: int = 0
    runs: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    prepare: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    conclude: Duration = field(default_factory=Duration)

    def add_success(self, rows: int, runs: int, times: Times, seconds: float) -> None:
        """Count a request that was answered."""
        self.last_ms = round(time.time() * 1000)
        self.rows += rows
        self.runs += runs
        self.success.add(seconds)
        self.queue.add(times.queue_s)
        self.prepare.add(times.prepare_s)
        self.compute.add(times.compute_s)
        rest = seconds - times.queue_s - times.prepare_s - times.compute_s
        self.conclude.add(max(0.0, rest))

    def add_failure(self, seconds: float) -> None:
        """Count a request that was not."""
        self.last_ms = round(time.time() * 1000)
        self.fail.add(seconds)


class Statistics:
    """Those of all versions that were asked, by tenant, adapter and number.

    Written by the event loop; other threads may read.
    """

    def __init__(self, most: int = MOST_ADAPTERS) -> None:
        self._most = most
        self._adapters: OrderedDict[tuple[str, str], dict[int, VersionStatistics]] = OrderedDict()

    def count(self, tenant: str, adapter: str, number: int) -> VersionStatistics:
        """Those of a version that is asked now, to be added to."""
        name = (tenant, adapter)
        versions = self._adapters.setdefault(name, {})
        self._adapters.move_to_end(name)
        if len(self._adapters) > self._most:
            self._adapters.popitem(last=False)
        if number not in versions:
            if len(versions) == MOST_VERSIONS:
                del versions[min(versions)]
            versions[number] = VersionStatistics()
        return versions[number]

    def of(self, tenant: str, adapter: str, number: int) -> VersionStatistics:
        """Those of a version; zeros if it was not asked."""
        return self._adapters.get((tenant, adapter), {}).get(number, VersionStatistics())

    def forget_adapter(self, tenant: str, adapter: str) -> None:
        """Drop those of an adapter that is gone: another one of its name begins with zeros."""
        self._adapters.pop((tenant, adapter), None)

    def forget_tenant(self, tenant: str) -> None:
        """Drop those of all adapters of a tenant that is gone."""
        for name in [name for name in self._adapters if name[0] == tenant]:
            del self._adapters[name]

    def numbers(self, tenant: str, adapter: str) -> tuple[int, ...]:
        """The versions of an adapter that were asked."""
        return tuple(self._adapters.get((tenant, adapter), ()))
