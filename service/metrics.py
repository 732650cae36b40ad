"""Prometheus metrics. Labels are route templates, outcomes, backbones, at most 20 tenants.

The number of series is bounded by the code and the backbones that are served, whatever is asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.log import log_state
from service.usage import Usage

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """One backbone's series, looked up once: they are touched at each batch."""

    batch_rows: Histogram
    batch_adapters: Histogram
    text_tokens: Counter
    padded_tokens: Counter
    queue_rows: Gauge
    queue_seconds: Histogram
    backbone_seconds: Histogram
    failed_rows: Counter
    truncated_inputs: Counter
    lora_fills: Counter


class _LogMetrics(Collector):
    """The state of this process's log, as it is when it is asked for."""

    def collect(self) -> Iterator[Metric]:
        """Both series, also while nothing was lost."""
        state = log_state()
        yield CounterMetricFamily(
            "headstock_log_lines_dropped", "Lines of the log that were lost.", state.dropped
        )
        yield GaugeMetricFamily(
            "headstock_log_failing", "1 while the log cannot be written.", state.is_failing
        )


@dataclass(frozen=True, slots=True)
class TlsMetrics:
    """Of the certificate; a server without TLS has none of them."""

    expiry: Gauge
    renewal_failing: Gauge


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.usage = Usage()
        registry.register(self.usage)
        registry.register(_LogMetrics())
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
        self.grpc_requests = Counter(
            "headstock_grpc_requests",
            "Calls of gRPC by method and status.",
            ["method", "code"],
            registry=registry,
        )
        self.grpc_request_seconds = Histogram(
            "headstock_grpc_request_seconds",
            "From a call's head to its answer, seconds.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.connections = Gauge(
            "headstock_connections", "Connections that are open.", ["protocol"], registry=registry
        )
        self.closed_connections = Counter(
            "headstock_closed_connections",
            "Connections that were closed to make room for others, or refused for want of room.",
            ["protocol"],
            registry=registry,
        )
        for protocol in ("http", "grpc"):
            self.connections.labels(protocol)
            self.closed_connections.labels(protocol)
        self._answered: dict[tuple[str, ...], tuple[Counter, Histogram]] = {}
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
        self.truncated_inputs = Counter(
            "headstock_truncated_inputs",
            "Inputs that were longer than the backbone reads, and were cut.",
            ["backbone"],
            registry=registry,
        )
        self.lora_fills = Counter(
            "headstock_lora_fills",
            "LoRAs copied into the graph's pool, because a row needed one that was not there.",
            ["backbone"],
            registry=registry,
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
            "headstock_feature_cache_hits",
            "Features that were found in the cache.",
            registry=registry,
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
            "headstock_feature_cache_entries", "Features kept.", registry=registry
        )
        self.registry_unavailable = Gauge(
            "headstock_registry_unavailable",
            "1 while the registry cannot be followed; what is known is served on.",
            registry=registry,
        )

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request of HTTP was answered."""
        by = (method, route, str(status))
        series = self._answered.get(by)
        if series is None:
            series = self.requests.labels(*by), self.request_seconds.labels(method, route)
        self._count(by, series, seconds)

    def count_grpc_request(self, method: str, code: str, seconds: float) -> None:
        """One call of gRPC was answered."""
        by = (method, code)
        series = self._answered.get(by)
        if series is None:
            series = self.grpc_requests.labels(*by), self.grpc_request_seconds.labels(method)
        self._count(by, series, seconds)

    def _count(
        self, by: tuple[str, ...], series: tuple[Counter, Histogram], seconds: float
    ) -> None:
        """The series are looked up once: this is done at each request."""
        self._answered[by] = series
        series[0].inc()
        series[1].observe(seconds)

    def engine(self, backbone: str) -> EngineMetrics:
        """The series of one backbone."""
        return EngineMetrics(
            batch_rows=self.batch_rows.labels(backbone),
            batch_adapters=self.batch_adapters.labels(backbone),
            text_tokens=self.batch_tokens.labels(backbone, "text"),
            padded_tokens=self.batch_tokens.labels(backbone, "padded"),
            queue_rows=self.queue_rows.labels(backbone),
            queue_seconds=self.queue_seconds.labels(backbone),
            backbone_seconds=self.backbone_seconds.labels(backbone),
            failed_rows=self.failed_rows.labels(backbone),
            truncated_inputs=self.truncated_inputs.labels(backbone),
            lora_fills=self.lora_fills.labels(backbone),
        )

    def tls(self) -> TlsMetrics:
        """The series of a server with TLS; to be asked for once."""
        return TlsMetrics(
            expiry=Gauge(
                "headstock_tls_certificate_expiry_timestamp_seconds",
                "When the first certificate of the chain in use expires, Unix time.",
                registry=self.registry,
            ),
            renewal_failing=Gauge(
                "headstock_tls_renewal_failing",
                "1 while the certificate's files cannot be used, and an older one is.",
                registry=self.registry,
            ),
        )

    def render(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)
