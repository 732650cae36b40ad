"""Clients that leave, and a database that is held: nobody else waits for either."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.attacks.test_server_bodies import head
from tests.integration.server import Server, predict, running, total, upload, wait_until
from tests.support import make_adapter_file

PREDICT = "/v1/tenants/acme/adapters/intents/predict"
LEFT = (
    'headstock_requests_total{method="POST",'
    'route="/v1/tenants/{tenant}/adapters/{adapter}/predict",status="499"}'
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    # One row a batch, so that there is work left when a client leaves.
    with running(tmp_path, batch_tokens=1, runs=1) as (server, digest):
        server.add_tenant("acme")
        with server.http() as http:
            upload(http, "acme", "intents", make_adapter_file(backbone=digest))
        yield server


def test_rows_of_clients_that_left_are_dropped(server: Server) -> None:
    body = json.dumps({"inputs": ["0123456789"] * 1000}).encode()
    for _ in range(6):
        with server.connect() as connection:
            connection.sendall(head(PREDICT, f"Content-Length: {len(body)}") + body)
            wait_until(lambda: total(server.metrics(), "headstock_queue_rows") > 0, 10, "rows")
    wait_until(lambda: server.metrics().get(LEFT) == 6, 10, "all were seen to leave")
    assert total(server.metrics(), "headstock_queue_rows") == 0


def test_a_registry_that_is_held_is_told_in_time_and_changes_nothing_later(server: Server) -> None:
    with closing(sqlite3.connect(server.home / "registry.sqlite")) as other, server.http() as http:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        response = http.post("/v1/tenants", json={"name": "late"})
        assert time.monotonic() - started < 9
        assert (response.status_code, response.json()["code"]) == (503, "registry-unavailable")
        predict(http, "acme", "intents", ["hello"])
        other.rollback()
        names = [each["name"] for each in http.get("/v1/tenants").json()["tenants"]]
        assert names == ["acme"]
