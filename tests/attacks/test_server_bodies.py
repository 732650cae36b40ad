"""Bodies that are slow, cut off, too large or without end: nobody else notices."""

import contextlib
import gzip
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.server import ADMIN_KEY, Server, predict, running, upload, wait_until
from tests.support import make_adapter_file

LIMIT = 4 * 2**20
GIGABYTE = 2**30
MOST_GROWTH = 50 * 2**20
VERSIONS = "/v1/tenants/acme/adapters/intents/versions"
PREDICT = "/v1/tenants/acme/adapters/intents/predict"
BLOCK = bytes(64 * 2**10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bodies")
    limits = {"max_upload_bytes": LIMIT, "upload_bytes": 32 * LIMIT, "max_body_bytes": LIMIT}
    with running(folder, **limits) as (server, digest):
        server.add_tenant("acme")
        with server.http() as http:
            labels = tuple(f"label {number}" for number in range(500))
            upload(http, "acme", "intents", make_adapter_file(labels, backbone=digest))
        yield server


def head(path: str, *headers: str, key: str = ADMIN_KEY) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Authorization: Bearer {key}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """The status and the JSON of an answer after which the server closes."""
    text = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            text += part
    first, _, rest = text.partition(b"\r\n")
    return int(first.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])


def peak(server: Server) -> int:
    """The most memory that the worker ever had, bytes."""
    status = Path(f"/proc/{server.worker.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def is_well(server: Server) -> None:
    with server.http() as http:
        started = time.monotonic()
        predict(http, "acme", "intents", ["hello"])
        assert time.monotonic() - started < 1


def test_bodies_that_never_come_hold_up_nobody_and_are_refused_in_the_end(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(20)]
        dripping = [stack.enter_context(server.connect()) for _ in range(20)]
        for path, connection in zip(
            itertools.cycle((VERSIONS, PREDICT)), silent + dripping, strict=False
        ):
            connection.sendall(head(path, "Content-Length: 1000000"))
        stop = threading.Event()
        stack.callback(stop.set)
        threading.Thread(target=drip, args=(dripping, stop), daemon=True).start()
        for _ in range(100):
            is_well(server)
        for connection in silent + dripping:
            status, problem = read_answer(connection)
            assert (status, problem["code"]) == (408, "too-slow")


def drip(connections: list[socket.socket], stop: threading.Event) -> None:
    """A byte now and then, on each."""
    while not stop.wait(0.2):
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.send(b" ")


@pytest.mark.parametrize("abort", [False, True], ids=["closed", "reset"])
def test_a_client_that_leaves_within_its_upload_leaves_no_trace(
    server: Server, abort: bool
) -> None:
    before = len(server.log())
    content = make_adapter_file(seed=99, backbone="ab" * 32)
    for number in range(20):
        with server.connect() as connection:
            connection.sendall(head(VERSIONS, f"Content-Length: {len(content)}"))
            connection.sendall(content[: number * len(content) // 20])
            if abort:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    is_well(server)
    with server.http() as http:
        assert len(http.get(VERSIONS).json()["versions"]) == 1
    assert server.complaints(before) == []


def test_a_client_that_leaves_before_its_answer_harms_nobody(server: Server) -> None:
    before = len(server.log())
    body = json.dumps({"inputs": ["hello"] * 200, "top_k": 10}).encode()
    for number in range(20):
        with server.connect() as connection:
            connection.sendall(head(PREDICT, f"Content-Length: {len(body)}") + body)
            if number % 2:  # some leave within the answer
                connection.recv(100)
    wait_until(
        lambda: server.metrics()['headstock_queue_rows{backbone="tiny"}'] == 0, 20, "all computed"
    )
    is_well(server)
    assert server.complaints(before) == []


@pytest.mark.parametrize("path", [VERSIONS, PREDICT])
def test_a_body_of_a_gigabyte_is_refused_in_a_way_that_the_client_can_read(
    server: Server, path: str
) -> None:
    before = peak(server)
    with server.http() as http:
        length = {"Content-Length": str(GIGABYTE)}
        started = time.monotonic()
        blocks = itertools.repeat(BLOCK, GIGABYTE // len(BLOCK))
        response = http.post(path, content=blocks, headers=length)
        assert time.monotonic() - started < 10
    assert response.status_code == 413
    assert response.json()["code"] == "too-large"
    assert response.headers["content-type"] == "application/problem+json"
    assert peak(server) - before < MOST_GROWTH


@pytest.mark.parametrize("path", [VERSIONS, PREDICT])
def test_bombs_are_refused_with_flat_memory(server: Server, path: str) -> None:
    """Each holds 256 MB; nobody waits while eight of them are unpacked up to the limit."""
    bomb, before = gzip.compress(bytes(GIGABYTE // 4)), peak(server)
    answers: list[int] = []

    def send() -> None:
        with server.http() as http:
            headers = {"Content-Encoding": "gzip"}
            answers.append(http.post(path, content=bomb, headers=headers).status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    is_well(server)
    for thread in threads:
        thread.join(20)
    assert answers == [413] * 8
    assert peak(server) - before < MOST_GROWTH


def test_a_client_that_waits_for_leave_to_send_a_gigabyte_is_refused_at_once(
    server: Server,
) -> None:
    with server.connect() as connection:
        connection.sendall(head(VERSIONS, f"Content-Length: {GIGABYTE}", "Expect: 100-continue"))
        status, problem = read_answer(connection)
    assert (status, problem["code"]) == (413, "too-large")


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        (VERSIONS, ADMIN_KEY, 413),
        (PREDICT, ADMIN_KEY, 413),
        (VERSIONS, "nobody's", 401),
        ("/no/such/path", ADMIN_KEY, 404),
        ("/v1/backbones", ADMIN_KEY, 405),
    ],
)
def test_a_body_without_end_is_cut(server: Server, path: str, key: str, status: int) -> None:
    before = peak(server)
    started = time.monotonic()
    with server.http(key) as http:
        response = http.post(path, content=itertools.repeat(BLOCK))
    assert response.status_code == status
    assert response.headers["connection"] == "close"
    assert time.monotonic() - started < 10
    assert peak(server) - before < MOST_GROWTH
    is_well(server)


def test_a_refused_small_body_leaves_the_connection_open(server: Server) -> None:
    with server.http("nobody's") as http:
        assert http.post(VERSIONS, content=b"x" * 1000).status_code == 401
        response = http.post(VERSIONS, content=b"x" * 1000)
    assert response.status_code == 401
    assert "connection" not in response.headers


def test_many_bodies_at_the_limit_at_once_are_all_answered(server: Server) -> None:
    answers: list[int] = []

    def send() -> None:
        with server.http() as http, contextlib.suppress(httpx.WriteError):
            answers.append(http.post(VERSIONS, content=bytes(LIMIT)).status_code)

    threads = [threading.Thread(target=send) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [422] * 16
    is_well(server)


def test_a_request_after_a_refusal_is_not_taken_for_the_body_that_never_came(
    server: Server,
) -> None:
    refused = head(PREDICT, "Content-Length: 200", "Expect: 100-continue", key="nobody's")
    with server.connect() as connection:
        connection.sendall(refused)
        status, _ = read_answer(connection)  # to its end: the server closes
        assert status == 401
    is_well(server)
