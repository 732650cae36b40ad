"""Signals that mean an end drain, others change nothing, and a process that was stopped goes on."""

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest

from tests.attacks.conftest import RecordAttack
from tests.attacks.test_server_bodies import head, read_answer
from tests.integration.server import ADMIN_KEY, Server, infer, predict, running, upload
from tests.support import make_adapter_file

PREDICT = "/v1/tenants/acme/adapters/intents/predict"
_STOPPED_S = 11.0  # longer than a request may take, and than BentoML's own timer
# What waited may be past its time when the process goes on: for its body (408), or for its answer.
_HTTP_REFUSALS = (408, 503, 504)
_GRPC_REFUSALS = ("gRPC DEADLINE_EXCEEDED", "gRPC UNAVAILABLE")
_CLIENTS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("signals")) as (server, digest):
        server.add_tenant("acme")
        with server.http() as http:
            upload(http, "acme", "intents", make_adapter_file(backbone=digest))
        yield server


def test_signals_without_a_meaning_change_nothing(
    server: Server, record_attack: RecordAttack
) -> None:
    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTOU, signal.SIGTTIN, signal.SIGPIPE)
    record_attack(attempts=len(numbers))
    for number in numbers:
        server.process.send_signal(number)
        with server.http() as http:
            predict(http, "acme", "intents", ["hello"])


def test_a_process_that_was_stopped_answers_or_refuses_all_that_waited(
    server: Server, record_attack: RecordAttack
) -> None:
    """Nothing is cut off, nothing is left out, and soon all is answered again."""
    seen: Counter[str] = Counter()
    is_over = threading.Event()

    def ask() -> None:
        with server.http() as http:
            while not is_over.is_set():
                response = http.post(PREDICT, json={"inputs": ["hello"] * 20})
                kind = response.headers["content-type"]
                assert kind == f"application/{'' if response.is_success else 'problem+'}json"
                seen[f"HTTP {response.status_code}"] += 1

    def call() -> None:
        with server.grpc() as channel:
            while not is_over.is_set():
                try:
                    infer(channel, ADMIN_KEY, "acme.intents", ["hello"] * 20)
                    seen["gRPC OK"] += 1
                except grpc.RpcError as error:
                    seen[f"gRPC {error.code().name}"] += 1

    with ThreadPoolExecutor(_CLIENTS) as pool, server.connect() as half, _setting(is_over):
        clients = [pool.submit(each) for each in (ask, call) * (_CLIENTS // 2)]
        body = b'{"inputs": ["hello"]}'
        headers = (f"Content-Length: {len(body)}", "Connection: close")
        half.sendall(head(PREDICT, *headers) + body[:5])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGSTOP)
        half.sendall(body[5:])  # it comes while nobody is there to read it
        time.sleep(_STOPPED_S)
        server.process.send_signal(signal.SIGCONT)
        status, content = read_answer(half)
        started = time.monotonic()
        with server.http() as http:
            predict(http, "acme", "intents", ["hello"])
        took = time.monotonic() - started
        is_over.set()
        for client in clients:
            client.result()
    record_attack(attempts=seen.total(), figure=f"answered {took:.2f} s after it went on")
    assert took < 5
    assert status in (200, *_HTTP_REFUSALS), content
    answers = {"HTTP 200", *(f"HTTP {status}" for status in _HTTP_REFUSALS)}
    assert set(seen) <= {*answers, "gRPC OK", *_GRPC_REFUSALS}, seen
    assert seen["HTTP 200"] > 0
    assert seen["gRPC OK"] > 0


@contextlib.contextmanager
def _setting(event: threading.Event) -> Iterator[None]:
    """Set it at the end, also where a test fails: threads wait for it."""
    try:
        yield
    finally:
        event.set()


def test_a_terminal_that_closes_ends_the_server_in_order(
    server: Server, record_attack: RecordAttack
) -> None:
    """The last test here: the server is gone after it."""
    with ThreadPoolExecutor(_CLIENTS) as pool:
        begun = threading.Barrier(_CLIENTS + 1)
        clients = [pool.submit(_ask_until_gone, server, begun) for _ in range(_CLIENTS)]
        begun.wait(10)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGHUP)
        status = server.wait(15)
        answered = sum(client.result() for client in clients)
    record_attack(attempts=_CLIENTS, figure=f"exit status {status}, {answered} whole answers")
    assert status == 0
    assert answered > 0


def _ask_until_gone(server: Server, begun: threading.Barrier) -> int:
    """A connection for each request; the number of answers."""
    begun.wait(10)
    count = 0
    while True:
        with server.http() as http:
            try:
                response = http.post(PREDICT, json={"inputs": ["hello"] * 50})
            except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
                return count  # refused, or accepted by the system and not by the server any more
            assert len(response.json()["predictions"]) == 50
            count += 1
