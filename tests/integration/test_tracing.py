"""Spans arrive at a collector, of both protocols, under the parent that the caller named."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from adapters.errors import InvalidInput
from service.tracing import Tracing
from tests.integration.server import ADMIN_KEY, Server, infer, make_home, predict, upload
from tests.support import make_adapter_file

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(HTTPServer):
    """Takes what OpenTelemetry's exporters send, on a free port."""

    def __init__(self) -> None:
        self.exports: list[ExportTraceServiceRequest] = []
        super().__init__(("127.0.0.1", 0), _Take)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Take(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        assert self.path == "/v1/traces"
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.exports.append(ExportTraceServiceRequest.FromString(content))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


def test_spans_of_both_protocols_arrive(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    home, digest = make_home(tmp_path)
    with Server(home) as server:
        server.add_tenant("acme")
        with server.http() as http:
            upload(http, "acme", "intents", make_adapter_file(backbone=digest))
            http.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
            predict(http, "acme", "intents", ["confidential"])
        with server.grpc() as channel:
            infer(channel, ADMIN_KEY, "acme.intents", ["confidential"])
        assert server.terminate() == 0  # and with that, what is left is sent
        assert server.complaints(0) == []
    (resource,) = {
        each.value.string_value
        for export in collector.exports
        for group in export.resource_spans
        for each in group.resource.attributes
        if each.key == "service.name"
    }
    assert resource == "headstock"
    spans = {
        span.name: span
        for export in collector.exports
        for group in export.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    }
    http_span = spans["POST /v1/tenants/{tenant}/adapters/{adapter}/predict"]
    assert (http_span.trace_id.hex(), http_span.parent_span_id.hex()) == (TRACE, PARENT)
    assert 0 < http_span.end_time_unix_nano - http_span.start_time_unix_nano < 10**10
    facts = {each.key: each.value for each in http_span.attributes}
    assert facts["headstock.tenant"].string_value == "acme"
    assert facts["headstock.version"].int_value == 1
    assert "/inference.GRPCInferenceService/ModelInfer" in spans
    assert "confidential" not in str(collector.exports)


def test_an_endpoint_without_an_exporter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InvalidInput, match=r"headstock\[otel\]"):
        Tracing().configure()
