"""A byte a second, of a head or of a body: closed within ten seconds, while others are served."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.attacks.test_server_bodies import head
from tests.integration.server import Server, running

VERSIONS = "/v1/tenants/acme/adapters/intents/versions"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("slow")) as (server, _):
        server.add_tenant("acme")
        yield server


def trickle(connection: socket.socket, content: bytes, closed_after: list[float]) -> None:
    """A byte a second until the server closes; how long that took."""
    started = time.monotonic()
    connection.settimeout(1)
    for byte in content:
        try:
            connection.sendall(bytes([byte]))
            while connection.recv(4096):
                pass
            break
        except TimeoutError:
            continue
        except OSError:
            break
    closed_after.append(time.monotonic() - started)


def test_slow_clients_are_closed_while_others_are_served(server: Server) -> None:
    closed_after: list[float] = []
    whole = head(VERSIONS, "Content-Length: 1000")
    with server.connect() as first, server.connect() as second, server.connect() as third:
        second.sendall(whole)
        third.sendall(whole + b"a")
        threads = [
            threading.Thread(target=trickle, args=(connection, b"POST / HTTP" * 10, closed_after))
            for connection in (first, second, third)
        ]
        for thread in threads:
            thread.start()
        with server.http() as http:
            while any(thread.is_alive() for thread in threads):
                started = time.monotonic()
                assert http.get("/v1/tenants").status_code == 200
                assert time.monotonic() - started < 1
                time.sleep(0.2)
    assert len(closed_after) == 3
    assert all(5 < seconds < 10.9 for seconds in closed_after), closed_after
