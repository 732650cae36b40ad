"""Long uploads: memory has a bound that tenants share, and a key is revoked between their parts."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from adapters.adapter import build_adapter
from tests.attacks.conftest import RecordAttack
from tests.attacks.test_server_bodies import head, peak, read_answer
from tests.integration.server import ADMIN_KEY, Server, Tenant, running, upload, wait_until
from tests.support import make_manifest

MEGABYTE = 10**6
LONG = 62 * MEGABYTE
N_UPLOADERS, N_REVOCATIONS = 4, 6
EFFECTIVE_S = 1.5  # 0.5 s on a machine with nothing else to do; before, it was several


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    with running(tmp_path_factory.mktemp("uploads")) as (server, digest):
        yield server, digest


@pytest.fixture(scope="module")
def server(started: tuple[Server, str]) -> Server:
    return started[0]


@pytest.fixture(scope="module")
def idle_bytes(server: Server) -> int:
    """Its memory before the first upload."""
    return server.rss()


@pytest.fixture(scope="module")
def tenants(server: Server) -> list[Tenant]:
    return [server.add_tenant(f"tenant{number}") for number in range(N_UPLOADERS)]


@pytest.fixture(scope="module")
def long_file(started: tuple[Server, str]) -> bytes:
    """A valid adapter of 62 MB: a knn of very many vectors."""
    rows, random = LONG // (9 * 4), np.random.default_rng(0)
    tensors = {
        "head.vectors": random.standard_normal((rows, 8), np.float32),
        "head.vector_labels": random.integers(0, 2, rows).astype(np.float32),
    }
    golden = random.standard_normal((1, 8), np.float32)
    return build_adapter(make_manifest(backbone=started[1], head="knn"), tensors, golden)


def versions_of(tenant: Tenant, adapter: str = "intents") -> str:
    return f"/v1/tenants/{tenant.name}/adapters/{adapter}/versions"


def begin(server: Server, tenant: Tenant, how: str) -> socket.socket:
    """An upload of which all but the last byte is sent, unless it is refused before."""
    connection = server.connect(5)
    length = f"Content-Length: {LONG}" if how == "announced" else "Transfer-Encoding: chunked"
    with contextlib.suppress(OSError):
        connection.sendall(head(versions_of(tenant), length, key=tenant.key))
        if how == "announced":
            connection.sendall(bytes(LONG - 1))
        else:
            for _ in range(LONG // MEGABYTE):
                connection.sendall(b"%x\r\n" % MEGABYTE + bytes(MEGABYTE) + b"\r\n")
    return connection


def test_unfinished_json_has_a_bound_in_memory(
    server: Server, tenants: list[Tenant], record_attack: RecordAttack
) -> None:
    """100 bodies of 8 MB, of which 16 may be under way, and a tenant may have half of them."""
    before, length = peak(server), 8 * MEGABYTE
    path, key = f"/v1/tenants/{tenants[0].name}/predict", tenants[0].key
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(server.connect(5))
            with contextlib.suppress(OSError):
                connection.sendall(head(path, f"Content-Length: {length}", key=key))
                connection.sendall(bytes(length - 1))
        growth = (peak(server) - before) / MEGABYTE
    record_attack(attempts=100, figure=f"{growth:.0f} MB of memory more for 800 MB of bodies")
    assert growth < 300


@pytest.mark.parametrize("how", ["announced", "in chunks"])
def test_unfinished_uploads_have_a_bound_in_memory(
    server: Server, tenants: list[Tenant], idle_bytes: int, record_attack: RecordAttack, how: str
) -> None:
    """24 of 62 MB: 1.5 GB, of which a budget of 256 MiB is shared."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(24) as pool:
        for connection in pool.map(lambda tenant: begin(server, tenant, how), tenants * 6):
            stack.enter_context(connection)
        growth = (peak(server) - idle_bytes) / MEGABYTE
        # Somebody who has nothing under way still finds room.
        with server.http() as http:
            small = http.post(versions_of(server.add_tenant(how.replace(" ", "-"))), content=b"a")
    record_attack(attempts=24, figure=f"{growth:.0f} MB of memory more for 1,488 MB of uploads")
    assert small.status_code == 422
    assert growth < 500
    wait_until(lambda: is_free(server, tenants[0]), 10, "what was lent is given back")


def is_free(server: Server, tenant: Tenant) -> bool:
    """Whether a tenant may begin two long uploads at once."""
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            connection = stack.enter_context(server.connect(1.0))
            length = f"Content-Length: {LONG}"
            connection.sendall(head(versions_of(tenant), length, key=tenant.key))
            try:
                connection.recv(1)
            except TimeoutError:
                continue
            return False
    return True


def test_an_upload_over_the_quota_is_refused_unread(
    server: Server, record_attack: RecordAttack
) -> None:
    limits = {"bytes": LONG - 1, "versions": 0, "adapters": 0}
    poor = [server.add_tenant(f"poor-in-{name}") for name in limits]
    with server.http() as http:
        for tenant, (name, limit) in zip(poor, limits.items(), strict=True):
            http.put(f"/v1/tenants/{tenant.name}/quota", json={name: limit}).raise_for_status()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connect(5)) for _ in poor]
        for tenant, connection in zip(poor, connections, strict=True):
            connection.sendall(head(versions_of(tenant), f"Content-Length: {LONG}", key=tenant.key))
        answers = [read_answer(connection) for connection in connections]
    record_attack(attempts=3, figure="refused after 0 bytes of 62 MB")
    assert [(status, each["code"]) for status, each in answers] == [(403, "quota-exceeded")] * 3


def test_a_key_is_revoked_while_long_files_are_published(
    server: Server, tenants: list[Tenant], long_file: bytes, record_attack: RecordAttack
) -> None:
    stop = threading.Event()
    n_published = [0] * N_UPLOADERS

    def publish(number: int, tenant: Tenant) -> None:
        with server.http(tenant.key) as http:
            while not stop.is_set():
                path = versions_of(tenant, f"adapter{n_published[number]}")
                n_published[number] += http.post(path, content=long_file).status_code == 201

    threads = [threading.Thread(target=publish, args=pair) for pair in enumerate(tenants)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: sum(n_published) > 0, 30, "a file is published")
        waits = [revoke(server) for _ in range(N_REVOCATIONS)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    worst = max(waits)
    record_attack(
        attempts=sum(n_published), figure=f"the slowest of {len(waits)} revocations {worst:.2f} s"
    )
    assert worst < EFFECTIVE_S, waits


def revoke(server: Server) -> float:
    """Seconds from asking for a key's end to the first refusal of it."""
    tenant = server.add_tenant(f"revoked{time.monotonic_ns()}")
    started = time.monotonic()
    with server.http() as admin, server.http(tenant.key) as http:
        path = f"/v1/tenants/{tenant.name}/keys/{tenant.key_id}"
        assert admin.delete(path).status_code == 204
        while http.get(f"/v1/tenants/{tenant.name}/adapters").status_code != 401:
            time.sleep(0.01)
    return time.monotonic() - started


def test_a_long_file_comes_back_as_it_was(
    server: Server, tenants: list[Tenant], long_file: bytes
) -> None:
    with server.http(ADMIN_KEY) as http:
        made = upload(http, tenants[0].name, "kept", long_file)
        again = upload(http, tenants[0].name, "kept", long_file)
        content = http.get(f"{versions_of(tenants[0], 'kept')}/1/file").content
    assert (made["version"], again["version"], again["created"]) == (1, 1, False)
    assert content == long_file
