"""Requests that hide others (request smuggling), sent to the server in one and several segments."""

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.attacks.conftest import RecordAttack
from tests.exchange import attack_all
from tests.integration.server import ADMIN_KEY, Server, running
from tests.odd_requests import SMUGGLED


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("smuggling")) as (server, _):
        yield server


def test_no_odd_request_gets_an_answer_too_many(
    server: Server, record_attack: RecordAttack
) -> None:
    before = len(server.log())
    outcomes = asyncio.run(attack_all(server.port, 24))
    faults = [(str(each.odd), each.segments, fault) for each in outcomes if (fault := each.fault())]
    answers = sum(len(each.answers) for each in outcomes)
    requests = sum(each.odd.answers for each in outcomes)
    record_attack(
        len(outcomes),
        f"direct: {answers:,} answers to {requests:,} requests, {len(faults)} desynchronised",
    )
    assert not faults, faults[:5]
    assert not [each for each in server.events(before) if each.get("request_id") == SMUGGLED]


def test_a_body_behind_an_upgrade_is_not_a_request(server: Server) -> None:
    """Answered /metrics as well once."""
    hidden = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(
            b"POST /livez HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n"
            b"Content-Length: %d\r\n\r\n" % len(hidden)
        )
        time.sleep(0.1)  # the body is a segment of its own
        connection.sendall(hidden)
        connection.settimeout(1)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except TimeoutError:
            pass
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"headstock_requests" not in answer


@pytest.mark.parametrize("options", [["--http1.1"], ["--http2"]], ids=["HTTP/1.1", "h2c"])
def test_curl_is_answered_whatever_protocol_it_would_rather_speak(
    server: Server, options: list[str]
) -> None:
    name = options[0].strip("-").replace(".", "-")
    body = json.dumps({"name": name}).ljust(100_000)  # in several segments
    command = ["curl", "-s", *options, "-d", "@-", f"{server.url}/v1/tenants"]
    command += ["-H", f"Authorization: Bearer {ADMIN_KEY}", "-H", "Content-Type: application/json"]
    answer = subprocess.run(
        command, input=body, capture_output=True, text=True, timeout=20, check=True
    )
    assert json.loads(answer.stdout)["name"] == name


def test_requests_behind_each_other_without_end_hold_up_nobody(
    server: Server, record_attack: RecordAttack
) -> None:
    request = b"GET /v2/health/live HTTP/1.1\r\nHost:\r\n\r\n"
    stop, before, n_sent = threading.Event(), server.rss(), []

    def flood() -> None:
        with server.connect(0.2) as connection:
            while not stop.is_set():
                try:  # answers are not read
                    n_sent.append(connection.send(request * 5000) // len(request))
                except OSError:
                    continue

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    waits = []
    try:
        for _ in range(30):
            started = time.monotonic()
            with server.connect() as connection:
                connection.sendall(request)
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            waits.append(time.monotonic() - started)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    grown = (server.rss() - before) / 2**20
    figure = f"pipelined: longest wait of others {1000 * max(waits):.0f} ms, memory +{grown:.0f} MB"
    record_attack(sum(n_sent), figure)
    assert max(waits) < 2
    assert grown < 60
