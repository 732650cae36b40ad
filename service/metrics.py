"""Prometheus metrics. Labels are route templates, outcomes and backbones: never a customer's words.

The number of series is bounded by the code and the backbones that are served, whatever is asked.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "headstock_requests",
            "Requests by route template and HTTP status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "headstock_request_seconds",
            "From the request's head to its answer, seconds.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "headstock_batch_rows",
            "Rows of a batch.",
            ["backbone"],
            buckets=_ROWS,
            registry=registry,
        )
        self.batch_adapters = Histogram(
            "headstock_batch_adapters",
            "Different adapters in a batch.",
            ["backbone"],
            buckets=_ROWS,
            registry=registry,
        )
        self.batch_tokens = Counter(
            "headstock_batch_tokens",
            "Tokens that went through the backbone: of texts, and with their padding.",
            ["backbone", "kind"],
            registry=registry,
        )
        self.queue_rows = Gauge(
            "headstock_queue_rows", "Rows waiting.", ["backbone"], registry=registry
        )
        self.queue_seconds = Histogram(
            "headstock_queue_seconds",
            "A row's wait for its batch, seconds.",
            ["backbone"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.backbone_seconds = Histogram(
            "headstock_backbone_seconds",
            "One run of the backbone, without heads, seconds.",
            ["backbone"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.failed_rows = Counter(
            "headstock_failed_rows", "Rows that failed alone.", ["backbone"], registry=registry
        )
        self.adapter_loads = Counter(
            "headstock_adapter_loads",
            "Adapters loaded from the registry, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.resident_adapters = Gauge(
            "headstock_resident_adapters", "Adapters in memory.", registry=registry
        )
        self.resident_bytes = Gauge(
            "headstock_resident_bytes", "Memory of the adapters in memory.", registry=registry
        )
        self.feature_cache_hits = Counter(
            "headstock_feature_cache_hits", "Rows whose features were kept.", registry=registry
        )
        self.feature_cache_misses = Counter(
            "headstock_feature_cache_misses",
            "Rows whose features might have been kept and were not there.",
            registry=registry,
        )
        self.feature_cache_bytes = Gauge(
            "headstock_feature_cache_bytes", "Memory of the kept features.", registry=registry
        )
        self.feature_cache_entries = Gauge(
            "headstock_feature_cache_entries", "Inputs with kept features.", registry=registry
        )
        self.registry_unavailable = Gauge(
            "headstock_registry_unavailable",
            "1 while the registry cannot be followed; what is known is served on.",
            registry=registry,
        )

    def render(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)
