"""Spans of OpenTelemetry, one a request, where the standard variables say where they go.

A request's span is made when it has ended, with the times that it had: nothing is carried through
the code that answers. Its parent is what the caller's `traceparent` names.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from adapters.errors import InvalidInput

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


_FAREWELL_S = 3.0  # for what is left to be sent when the server stops


class Tracing:
    """Where spans go: nowhere, until it is configured."""

    def __init__(self) -> None:
        self._tracer: Tracer | None = None
        self._shutdown: Callable[[], object] = lambda: None

    @staticmethod
    def check() -> bool:
        """Whether the environment names an endpoint.

        Raises:
            InvalidInput: it does, and the exporter is not installed.
        """
        if not any(os.environ.get(name) for name in _ENDPOINTS):
            return False
        try:
            import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401  # is it there
        except ModuleNotFoundError as error:
            raise InvalidInput(
                f"{_ENDPOINTS[0]} is set, and the exporter is not installed; get it with: "
                "pip install 'headstock[otel]'"
            ) from error
        return True

    def configure(self) -> None:
        """Export over HTTP, where the environment names an endpoint. Raises as `check`."""
        if not self.check():
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": "headstock"})
        provider = TracerProvider(
            # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes before.
            resource=resource.merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer("headstock")
        self._shutdown = provider.shutdown

    def record(
        self,
        name: str,
        traceparent: str | None,
        seconds: float,
        failed: bool,
        facts: Mapping[str, object],
    ) -> None:
        """A request of `seconds` has just ended."""
        if self._tracer is None:
            return
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {} if traceparent is None else {"traceparent": traceparent}
        end = time.time_ns()
        span = self._tracer.start_span(
            name,
            context=TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            start_time=end - int(seconds * 1e9),
            attributes={
                f"headstock.{key}": value
                for key, value in facts.items()
                if isinstance(value, str | int | float)
            },
        )
        if failed:
            span.set_status(StatusCode.ERROR)
        span.end(end)

    def stop(self) -> None:
        """Send what is left, for a moment: a collector that does not answer holds nobody up."""
        sending = threading.Thread(target=self._shutdown, daemon=True)
        sending.start()
        sending.join(_FAREWELL_S)
