"""One host that holds every connection of HTTP, in all the ways in which it can."""

import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.attacks.conftest import RecordAttack
from tests.integration.server import Server, running

LIMIT = 512
ATTACKER = "127.0.0.2"
HEAD = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
KINDS = {
    "silent": b"",
    "half a head": b"GET /livez HTTP/1.1\r\nHost",
    "kept alive": HEAD,
    "half a body and no key": b"POST /v1/tenants HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
    "a body of chunks without end": (
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n"
    ),
}
MOST_S = 1.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(most, 4 * LIMIT)), hard))
    with running(tmp_path_factory.mktemp("connections"), max_connections=LIMIT) as (server, _):
        yield server


def attack(server: Server, content: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), 5, (ATTACKER, 0))
    connection.sendall(content)
    return connection


def is_answered(server: Server) -> float:
    """How long a client of another host waits for its answer, s."""
    started = time.monotonic()
    with server.connect(5) as connection:
        connection.sendall(HEAD)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    return time.monotonic() - started


@pytest.mark.parametrize("kind", KINDS)
def test_connections_of_one_host_make_room_for_others(
    server: Server, kind: str, record_attack: RecordAttack
) -> None:
    held = [attack(server, KINDS[kind]) for _ in range(LIMIT + 40)]
    try:
        waits = [is_answered(server) for _ in range(20)]
    finally:
        for connection in held:
            connection.close()
    record_attack(len(held), f"{kind}: longest wait of a newcomer {max(waits) * 1000:.0f} ms")
    assert max(waits) < MOST_S


def test_an_attacker_who_is_back_at_once_keeps_nobody_out(
    server: Server, record_attack: RecordAttack
) -> None:
    stop, attempts = threading.Event(), []

    def reconnect() -> None:
        held: list[socket.socket] = []
        while not stop.is_set():
            held.append(attack(server, b"GET /"))
            attempts.append(1)
            if len(held) > LIMIT // 2:
                held.pop(0).close()
        for connection in held:
            connection.close()

    threads = [threading.Thread(target=reconnect) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        waits = [is_answered(server) for _ in range(50)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    longest = f"longest wait of a newcomer {max(waits) * 1000:.0f} ms"
    record_attack(len(attempts), f"reconnecting, {len(attempts):,} times: {longest}")
    assert max(waits) < 2 * MOST_S
