"""A log that cannot be written, for want of room or a reader, holds up no answer and no stop."""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from adapters.registry import Registry
from service.grpc.methods import METHODS
from tests.attacks.conftest import RecordAttack
from tests.integration.server import SERVE, Server, make_home, wait_until

BY_NAME: Final = {method.name: method for method in METHODS}
_PIPE_BYTES: Final = 4096  # the smallest pipe: it holds the lines of about ten requests
_FLOOD: Final = 320


def logging_to(home: Path, target: str, **settings: Any) -> Server:
    """A server whose standard error is what the shell makes of `target`."""
    command = ("/bin/sh", "-c", f'exec "$0" "$@" 2>{target}', *SERVE)
    return Server(home, command=command, **settings)


class Reader:
    """The far end of a server's log, which reads when it is told to."""

    def __init__(self, fifo: Path) -> None:
        self._fifo, self._content = fifo, b""
        os.mkfifo(fifo)
        self.open()

    def open(self) -> None:
        self._end = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self._end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def close(self) -> None:
        os.close(self._end)

    def events(self) -> list[dict[str, object]]:
        """Read what is there, until nothing has come for a while."""
        last = time.monotonic()
        while time.monotonic() - last < 1.5:
            with contextlib.suppress(BlockingIOError):
                if content := os.read(self._end, 2**16):
                    self._content += content
                    last = time.monotonic()
                    continue
            time.sleep(0.01)
        lines, self._content = self._content.splitlines(), b""
        return [json.loads(line) for line in lines if line]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Reader]]:
    folder = tmp_path_factory.mktemp("log")
    home, _ = make_home(folder)
    reader = Reader(folder / "log")
    with logging_to(home, str(folder / "log")) as server:
        yield server, reader
    reader.close()


def flood(server: Server) -> tuple[set[int], float]:
    """Ask for what nobody has; the answers' statuses, and the longest wait of /livez meanwhile."""
    longest = 0.0

    def ask(number: int) -> int:
        with server.http(None) as http:
            return http.get(f"/nothing/{number}").status_code

    with ThreadPoolExecutor(8) as pool, server.http(None) as http:
        asked = [pool.submit(ask, number) for number in range(_FLOOD)]
        while not all(each.done() for each in asked):
            started = time.monotonic()
            assert http.get("/livez").status_code == 200
            longest = max(longest, time.monotonic() - started)
            time.sleep(0.01)
    return {each.result() for each in asked}, longest


def is_failing(server: Server) -> bool:
    return server.metrics()["headstock_log_failing"] == 1


def test_a_log_that_nobody_reads_holds_up_no_request(
    served: tuple[Server, Reader], record_attack: RecordAttack
) -> None:
    server, reader = served
    assert server.metrics()["headstock_log_lines_dropped_total"] == 0
    statuses, longest = flood(server)
    record_attack(attempts=_FLOOD, figure=f"longest wait of /livez {longest:.2f} s")
    assert statuses == {404}
    assert longest < 3  # an answer waits for no reader of the log
    wait_until(lambda: is_failing(server), 5, "the log fails")
    tenant = server.add_tenant("unread")
    with server.http(tenant.key) as http:
        assert http.get("/v1/tenants/unread/adapters").status_code == 200
        assert http.get("/readyz").status_code == 200
    events = reader.events()
    assert len([each for each in events if each["event"] == "http"]) > _FLOOD
    assert not is_failing(server)


def test_a_reader_that_dies_and_comes_back_gets_whole_lines(
    served: tuple[Server, Reader], record_attack: RecordAttack
) -> None:
    server, reader = served
    reader.events()
    reader.close()
    statuses, longest = flood(server)
    record_attack(attempts=_FLOOD, figure=f"longest wait of /livez {longest:.2f} s")
    wait_until(lambda: is_failing(server), 5, "the log fails")
    server.add_tenant("unheard")
    reader.open()
    events = reader.events()
    assert statuses == {404}
    assert len([each for each in events if each["event"] == "http"]) > _FLOOD
    assert not is_failing(server)


def test_a_server_whose_log_is_stuck_stops_in_order(
    served: tuple[Server, Reader], record_attack: RecordAttack
) -> None:
    server, _ = served
    flood(server)
    wait_until(lambda: is_failing(server), 5, "the log fails")
    started = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    status, took = server.wait(15), time.monotonic() - started
    record_attack(attempts=1, figure=f"stopped after {took:.1f} s")
    assert status == 0
    assert took < 10


def test_a_full_disk_turns_a_server_unready_where_that_is_set(
    tmp_path: Path, record_attack: RecordAttack
) -> None:
    home, _ = make_home(tmp_path)
    server = logging_to(home, "/dev/full", log_loss="unready")
    server.start()
    try:
        with server.http() as http:
            wait_until(lambda: _answers(http), 60, "the server answers")
            http.get("/nothing")
            wait_until(lambda: http.get("/readyz").status_code == 503, 5, "it is not ready")
            wait_until(lambda: not _is_healthy(server), 5, "nor over gRPC")
            assert http.get("/v2/health/ready").status_code == 503
            assert not _is_ready(server)
            # A change that is committed is answered, with the key that nobody can see again.
            started = time.monotonic()
            answers = [
                http.post("/v1/tenants", json={"name": "full"}),
                http.post("/v1/tenants/full/keys", json={"scopes": ["predict"]}),
            ]
            took = time.monotonic() - started
        record_attack(attempts=3, figure=f"a change answered after {took:.2f} s")
        assert [each.status_code for each in answers] == [201, 201]
        assert took < 5  # it was ten seconds for each, and a bare 500
        assert server.terminate() == 0
    finally:
        server.kill()


def _answers(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return http.get("/livez").status_code == 200
    return False


def _is_ready(server: Server) -> bool:
    method = BY_NAME["ServerReady"]
    with server.grpc() as channel:
        ask = channel.unary_unary(
            method.path, method.request.SerializeToString, method.answer.FromString
        )
        answer: Any = ask(method.request())
    return bool(answer.ready)


def _is_healthy(server: Server) -> bool:
    with server.grpc() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest())
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_closed_output_is_a_lost_log_and_no_broken_database(
    tmp_path: Path, record_attack: RecordAttack
) -> None:
    home, _ = make_home(tmp_path)
    with logging_to(home, "&- 1>&- 0<&-") as server:
        tenant = server.add_tenant("closed")
        statuses, _ = flood(server)
        failing = is_failing(server)
        assert server.terminate() == 0
    record_attack(attempts=_FLOOD)
    assert statuses == {404}
    assert failing
    with Registry.open(f"sqlite:///{home / 'registry.sqlite'}") as registry:
        assert [each.id for each in registry.list_keys("closed")] == [tenant.key_id]
