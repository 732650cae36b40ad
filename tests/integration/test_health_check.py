"""The health check of a container asks the address that the server listens on, and no other."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.ready import is_ready
from service.settings import Settings


class Probe(http.server.BaseHTTPRequestHandler):
    """Ready, and nothing else."""

    def do_GET(self) -> None:  # as http.server calls it
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(address: str) -> Iterator[int]:
    """A server at this one address; yields its port."""

    class Server(http.server.HTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    try:
        server = Server((address, 0), Probe)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("::1", "::1"),
        ("0.0.0.0", "127.0.0.1"),
        ("0", "127.0.0.1"),
        ("::", "::1"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_it_asks_what_is_listened_on(
    host: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # of no use for one's own address
    with listening(address) as port:
        assert is_ready(Settings(host=host, port=port))
    assert not is_ready(Settings(host=host, port=port))


def test_another_server_on_this_machine_is_not_asked() -> None:
    with listening("127.0.0.1") as port:
        assert not is_ready(Settings(host="127.0.0.2", port=port))


def test_a_name_that_leads_nowhere_is_not_ready() -> None:
    assert not is_ready(Settings(host="no such host", port=8000))
