"""Bytes and paths that no client sends: each is refused in a few words, and nothing grows."""

import json
import random
import socket
import string
import time
from collections.abc import Iterator

import pytest

from tests.integration.server import ADMIN_KEY, Server, predict, running, upload
from tests.support import make_adapter_file

PATHS = 10_000
PIPELINED = 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("requests")) as (server, digest):
        server.add_tenant("acme")
        with server.http() as http:
            upload(http, "acme", "intents", make_adapter_file(backbone=digest))
        yield server


def is_well(server: Server) -> None:
    with server.http() as http:
        started = time.monotonic()
        predict(http, "acme", "intents", ["hello"])
        assert time.monotonic() - started < 1


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    text = b""
    try:
        while part := connection.recv(65536):
            text += part
    except ConnectionResetError:
        pass
    return text


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
def test_garbage_after_requests_ends_the_connection_and_nothing_else(
    server: Server, at_once: bool
) -> None:
    before = len(server.log())
    chance = random.Random(1)
    request = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
    for number in range(100):
        # The first byte is none that a method starts with.
        garbage = b"\x00" + chance.randbytes(chance.randint(1, 5000)) + b"\r\n\r\n"
        with server.connect() as connection:
            if at_once:
                connection.sendall(request * (number % 4) + garbage)
            else:
                connection.sendall(request)
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
                connection.sendall(garbage)
            answer = read_all(connection)
        # The refusal ends the connection at once, requests before it or not.
        statuses = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
        assert set(statuses) <= {200, 400}
        assert statuses.count(200) <= number % 4
    is_well(server)
    # At once, uvicorn tells its log of each answer that it could not send any more.
    assert at_once or "Traceback" not in server.log()[before:]
    assert len(server.log()) - before < 100 * (10_000 if at_once else 200)


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v1/tenants HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/tenants HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n",
        b"POST /v1/tenants HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/tenants HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    ],
)
def test_requests_that_break_http_are_refused(server: Server, request_text: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(request_text)
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    statuses = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses
    assert all(400 <= status < 500 for status in statuses)
    is_well(server)


@pytest.mark.parametrize(
    "path",
    [
        "/metrics%0Aforged",
        "/v1/tenants/%00/adapters",
        "/v1/tenants/acme%00/adapters",
        "/v1/tenants/acme%0A/adapters",
        "/v1/tenants/%ff%fe/adapters",
        "/v1/tenants/acme/adapters/intents/versions/1%0A",
        "/v1/tenants/acme/adapters/intents/versions/0",
        "/v1/tenants/acme/adapters/intents/versions/-1",
        "/v1/tenants/acme/adapters/intents/versions/99999999999999999999999",
        "/v1/tenants/acme/adapters/intents/versions/%D9%A1",
        "/v1/tenants/../tenants",
        "/docs/assets/../../../../../../etc/passwd",
        "/docs/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/docs/assets/%00",
        "//v1//tenants",
        "/" + "a" * 60_000,
        "/v1/tenants/" + "a" * 60_000 + "/adapters",
        "/v1/tenants/" + "%0A" * 20_000 + "/adapters",
    ],
    ids=lambda path: path[:40],
)
def test_strange_paths_are_refused_in_few_words(server: Server, path: str) -> None:
    before = len(server.log())
    with server.connect() as connection:
        head = f"GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
        answer = read_all(connection)
    status = int(answer.split()[1])
    assert status in (400, 404, 422, 431)
    assert (status == 431) == (len(path) > 32_768)
    assert len(answer) < 2000
    if b"application/problem+json" in answer:
        problem = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert problem["status"] == status
    for event in server.events(before):  # a line each, whatever the path has in it
        assert event["event"] == "http"
        assert event["status"] == status
        assert "{" in event["route"] or event["route"] == "unmatched"


def test_ten_thousand_paths_add_no_metric(server: Server) -> None:
    chance = random.Random(2)
    with server.http(None) as http:
        http.get("/no/such/path")
        for path in ("/v1/tenants/a/adapters", "/v2/models/a", "/v2/models/a/ready"):
            http.get(path)
    before = set(server.metrics())
    alphabet = string.ascii_letters + string.digits + "%20-_/."
    paths = [
        chance.choice(("/", "/v1/tenants/", "/v1/", "/v2/models/", "/docs/", "/metrics/"))
        + "".join(chance.choices(alphabet, k=chance.randint(1, 40))).replace("%", "%25")
        + chance.choice(
            ("", "/adapters", "/adapters/x/versions/1", "/ready", ".x/versions/1/infer")
        )
        for _ in range(PATHS)
    ]
    with server.connect() as connection:
        for start in range(0, PATHS, PIPELINED):
            part = paths[start : start + PIPELINED]
            connection.sendall(
                b"".join(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode() for path in part)
            )
            read_answers(connection, len(part))
    after = set(server.metrics())
    grown = after - before
    # One new route template may come up; never one a path.
    assert len(grown) <= 60, sorted(grown)[:20]
    assert not [series for series in after if "x/versions" in series]
    assert len(after) < 400


def read_answers(connection: socket.socket, count: int) -> None:
    """Read `count` pipelined answers."""
    text = b""
    while text.count(b"HTTP/1.1 ") < count or not text.endswith((b"}", b"\n", b"\r\n\r\n")):
        part = connection.recv(1 << 20)
        assert part, "the server closed"
        text += part
