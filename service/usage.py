"""What each tenant has used since this server started, and how much of the compute that was."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

MOST_TENANTS = 20  # that have series of their own
# No name of a tenant has a space.
OTHERS = "other tenants"
OPERATORS = "no tenant"


@dataclass(slots=True)
class Used:
    """Count for one tenant. `cost` is what its rows were charged with in the queue, in tokens."""

    requests: int = 0
    rows: int = 0
    tokens: int = 0
    truncated: int = 0
    cost: int = 0

    def add(self, requests: int, rows: int, tokens: int, truncated: int, cost: int) -> None:
        """Count more."""
        self.requests += requests
        self.rows += rows
        self.tokens += tokens
        self.truncated += truncated
        self.cost += cost


class Usage(Collector):
    """Counts by tenant, and shows those that used most to Prometheus, all others as one."""

    def __init__(self) -> None:
        self.since = datetime.now(UTC)
        self._used: defaultdict[str, Used] = defaultdict(Used)
        self._cost = 0

    def add(
        self,
        tenant: str,
        requests: int = 0,
        rows: int = 0,
        tokens: int = 0,
        truncated: int = 0,
        cost: int = 0,
    ) -> None:
        """Count what was answered; an operator's own requests are of the tenant ""."""
        self._used[tenant].add(requests, rows, tokens, truncated, cost)
        self._cost += cost

    def forget(self, tenant: str) -> None:
        """Drop the counts of a tenant that was deleted."""
        self._used.pop(tenant, None)

    def of(self, tenant: str) -> Used:
        """What a tenant has used."""
        return self._used[tenant] if tenant in self._used else Used()

    def share(self, tenant: str) -> float:
        """The tenant's part of all that was computed, 0 to 1."""
        return self.of(tenant).cost / self._cost if self._cost else 0.0

    def collect(self) -> Iterator[Metric]:
        """At most MOST_TENANTS series and one more a metric, however many tenants there are."""
        used = sorted(self._used.items(), key=lambda each: -each[1].cost)
        others = Used()
        for _, each in used[MOST_TENANTS:]:
            others.add(each.requests, each.rows, each.tokens, each.truncated, each.cost)
        shown = [*used[:MOST_TENANTS], (OTHERS, others)]
        for name, text in (
            ("requests", "Requests for predictions or embeddings that were answered."),
            ("rows", "Inputs that were answered."),
            ("tokens", "Tokens of the inputs that were answered."),
            ("truncated", "Inputs that were longer than the backbone reads, and were cut."),
            ("cost", "What inputs were charged with in the queue, in tokens."),
        ):
            family = CounterMetricFamily(
                f"headstock_tenant_{name}",
                f"{text} By tenant: the {MOST_TENANTS} that were charged most, and all others.",
                labels=["tenant"],
            )
            for tenant, each in shown:
                family.add_metric([tenant or OPERATORS], getattr(each, name))
            yield family
