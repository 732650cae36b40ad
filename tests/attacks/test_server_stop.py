"""A server that is asked to stop answers what it has accepted, and waits for nobody for ever."""

import contextlib
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx

from adapters.registry import Registry
from tests.attacks.test_server_bodies import head, read_answer
from tests.integration.server import (
    ADMIN_KEY,
    Server,
    infer,
    predict,
    running,
    upload,
    wait_until,
)
from tests.integration.test_kill import make_large_file
from tests.support import make_adapter_file

PREDICT = "/v1/tenants/acme/adapters/intents/predict"
VERSIONS = "/v1/tenants/acme/adapters/intents/versions"


def test_what_was_accepted_is_answered_when_the_server_stops(tmp_path: Path) -> None:
    # One row a batch, so that there is work left when the signal comes.
    settings = {"batch_tokens": 1, "runs": 1, "queue_rows": 100_000, "max_wait_s": 60}
    with running(tmp_path, **settings) as (server, digest):
        server.add_tenant("acme")
        late = make_adapter_file(seed=2, backbone=digest)
        with server.http() as http:
            upload(http, "acme", "intents", make_adapter_file(backbone=digest))
        with ThreadPoolExecutor(8) as pool, server.connect() as half, server.connect() as idle:
            half.sendall(head(VERSIONS, f"Content-Length: {len(late)}") + late[:100])
            answers = [pool.submit(ask, server) for _ in range(8)]
            wait_until(lambda: waiting(server) > 4000, 10, "rows that wait")
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
            read_whole(idle)
            server.process.terminate()
            assert idle.recv(1000) == b""  # the server has begun to stop
            half.sendall(late[100:])
            status, published = read_answer(half)
            assert (status, published["version"]) == (201, 2)
            for answer in answers:
                assert len(answer.result()["predictions"]) == 1000
        assert server.wait(15) == 0
        with Registry.open(f"sqlite:///{server.home / 'registry.sqlite'}") as registry:
            assert len(registry.list_versions("acme", "intents")) == 2


def read_whole(connection: socket.socket) -> None:
    """Read an answer to its end: it may come in several pieces."""
    with connection.makefile("rb") as stream:
        lines = []
        while (line := stream.readline()) != b"\r\n":
            assert line, "the connection ended within the head"
            lines.append(line.lower().split())
        (length,) = [int(line[1]) for line in lines if line[0] == b"content-length:"]
        assert len(stream.read(length)) == length


def ask(server: Server) -> dict[str, Any]:
    with server.http() as http:
        return predict(http, "acme", "intents", ["0123456789"] * 1000)


def waiting(server: Server) -> float:
    return server.metrics()['headstock_queue_rows{backbone="tiny"}']


def test_clients_that_do_nothing_do_not_keep_a_server_from_stopping(tmp_path: Path) -> None:
    with running(tmp_path) as (server, digest):
        server.add_tenant("acme")
        with server.http() as http:
            upload(http, "acme", "intents", make_large_file(9, digest))
            http.get("/livez")
            with contextlib.ExitStack() as stack:
                idle, silent, deaf = (stack.enter_context(server.connect()) for _ in range(3))
                idle.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
                silent.sendall(head(VERSIONS, "Content-Length: 1000000"))
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                download = head(f"{VERSIONS}/1/file").replace(b"POST", b"GET")
                deaf.sendall(download * 10)
                assert deaf.recv(8) == b"HTTP/1.1"
                started = time.monotonic()
                assert server.terminate() == 0
                assert time.monotonic() - started < 15
                status, _ = read_answer(silent)
                assert status == 408


def test_clients_that_come_and_go_meet_no_half_answer_while_a_server_stops(tmp_path: Path) -> None:
    """Over HTTP with a connection a request, and over gRPC with one for all."""
    with running(tmp_path) as (server, digest):
        server.add_tenant("acme")
        with server.http() as http:
            upload(http, "acme", "intents", make_adapter_file(backbone=digest))
        kinds = (ask_until_gone, infer_until_gone)
        with ThreadPoolExecutor(2 * len(kinds)) as pool:
            begun = threading.Barrier(2 * len(kinds) + 1)
            clients = [pool.submit(kind, server, begun) for kind in kinds for _ in range(2)]
            begun.wait(10)
            time.sleep(0.5)  # so that all are under way
            assert server.terminate() == 0
            assert all(client.result() > 0 for client in clients)


def infer_until_gone(server: Server, begun: threading.Barrier) -> int:
    """One channel for all calls; the number of answers."""
    begun.wait(10)
    count = 0
    with server.grpc() as channel:
        while True:
            try:
                answer = infer(channel, ADMIN_KEY, "acme.intents", ["hello"] * 50)
            except grpc.RpcError as error:
                # Not taken by the server any more; what it took, it answers.
                if "StatusCode.UNAVAILABLE" not in str(error):
                    raise
                return count
            assert len(answer.outputs[0].contents.bytes_contents) == 50
            count += 1


def ask_until_gone(server: Server, begun: threading.Barrier) -> int:
    """A connection a request; the number of answers."""
    body = json.dumps({"inputs": ["hello"] * 50})
    begun.wait(10)
    count = 0
    while True:
        with server.http() as http:
            try:
                response = http.post(PREDICT, content=body)
            except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
                # Refused, or accepted by the system and not by the server any more.
                return count
            assert response.status_code == 200
            assert len(response.json()["predictions"]) == 50
            count += 1


def test_ctrl_c_stops_an_idle_server_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as (server, _):
        server.process.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert server.wait(15) == 0
        assert time.monotonic() - started < 5


def test_readiness_goes_down_with_the_signal(tmp_path: Path) -> None:
    with running(tmp_path) as (server, _), server.http(None) as http:
        assert http.get("/readyz").status_code == 200
        server.worker.terminate()
        # Answered in the moment before uvicorn closes what is idle, or not at all.
        with contextlib.suppress(httpx.HTTPError):
            assert http.get("/readyz").status_code == 503
