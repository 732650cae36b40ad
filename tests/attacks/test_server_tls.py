"""TLS on both ports, and what is said where its files are no use."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from adapters.errors import InvalidInput
from service.settings import Settings
from service.tls import tls_files
from tests.attacks.certificates import make_certificate
from tests.integration.server import ADMIN_KEY, Server, infer, make_home, upload, wait_until
from tests.support import make_adapter_file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"), "own")[:2]


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, files: tuple[Path, Path]
) -> Iterator[tuple[Server, str]]:
    home, digest = make_home(tmp_path_factory.mktemp("home"))
    certificate, key = files
    server = Server(home, tls_certificate=certificate, tls_key=key)
    server.start()
    url = f"https://127.0.0.1:{server.port}"

    def is_ready() -> bool:
        assert server.process.poll() is None, server.log()
        try:
            return httpx.get(f"{url}/readyz", verify=context(certificate)).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_until(is_ready, 30, f"ready; its log:\n{server.log()}")
        yield server, digest
    finally:
        server.kill()


def context(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def test_handshakes_that_do_not_come_are_given_up(served: tuple[Server, str]) -> None:
    server, _ = served
    ports, started = (server.port, server.grpc_port), time.monotonic()
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for port in ports
        ]
        for each in silent:
            assert each.recv(1) == b""
        assert 5 < time.monotonic() - started < 15


def test_both_ports_speak_tls_and_nothing_else(
    served: tuple[Server, str], files: tuple[Path, Path]
) -> None:
    server, digest = served
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    url, trust = f"https://127.0.0.1:{server.port}", context(files[0])
    with httpx.Client(base_url=url, headers=headers, verify=trust) as http:
        assert http.post("/v1/tenants", json={"name": "acme"}).status_code == 201
        upload(http, "acme", "intents", make_adapter_file(backbone=digest))
    with server.http() as plain, pytest.raises(httpx.TransportError):
        plain.get("/livez")
    known = grpc.ssl_channel_credentials(files[0].read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", known) as channel:
        assert infer(channel, ADMIN_KEY, "acme.intents", ["hello"]).model_version == "1"
    with server.grpc() as plain_channel, pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
        infer(plain_channel, ADMIN_KEY, "acme.intents", ["hello"])
    home = {"HEADSTOCK_TLS_CERTIFICATE": str(files[0]), "HEADSTOCK_PORT": str(server.port)}
    ready = [sys.executable, "-m", "service.ready"]
    assert subprocess.run(ready, env={**os.environ, **home}, check=False).returncode == 0
    assert server.terminate() == 0
    assert subprocess.run(ready, env={**os.environ, **home}, check=False).returncode == 1


def settings(certificate: Path | None, key: Path | None) -> Settings:
    return Settings(tls_certificate=certificate, tls_key=key)


def test_files_that_are_no_use_are_named(tmp_path: Path, files: tuple[Path, Path]) -> None:
    certificate, key = files
    another = make_certificate(tmp_path, "another").key
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("no PEM")
    assert tls_files(settings(None, None)) is None
    assert tls_files(settings(certificate, key)) == (str(certificate), str(key))
    for wrong in (
        settings(certificate, None),
        settings(None, key),
        settings(certificate, another),
        settings(rubbish, key),
        settings(certificate, rubbish),
        settings(tmp_path / "nothing", key),
        settings(certificate, tmp_path),
    ):
        with pytest.raises(InvalidInput, match="TLS"):
            tls_files(wrong)
