"""Certificates that are swapped, by halves and by wrong ones too, under a running server."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.attacks.certificates import (
    PAST,
    RSA,
    Made,
    make_certificate,
    shown_digest,
)
from tests.attacks.conftest import RecordAttack
from tests.integration.server import Server, make_home, total, wait_until

_LOOKS_S = 10.0  # a server looks every second


class Secret:
    """A mounted secret of Kubernetes: the files are links through `..data`, which is replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        folder.mkdir()
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(f"..data/{name}")

    def put(self, certificate: Path, key: Path) -> None:
        """Swap both files at one moment."""
        self._number += 1
        version = self.folder / f"..{self._number}"
        version.mkdir()
        (version / "tls.crt").write_bytes(certificate.read_bytes())
        (version / "tls.key").write_bytes(key.read_bytes())
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("made")
    return {
        "first": make_certificate(folder, "first"),
        "rsa": make_certificate(folder, "rsa", RSA),
        "ec": make_certificate(folder, "ec"),
        "past": make_certificate(folder, "past", validity=PAST),
    }


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory, made: dict[str, Made]) -> Secret:
    secret = Secret(tmp_path_factory.mktemp("secret") / "tls")
    secret.put(*made["first"][:2])
    return secret


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, secret: Secret) -> Iterator[Server]:
    home, _ = make_home(tmp_path_factory.mktemp("home"))
    certificate, key = secret.folder / "tls.crt", secret.folder / "tls.key"
    server = Server(home, tls_certificate=certificate, tls_key=key)
    server.url = f"https://127.0.0.1:{server.port}"
    with server:
        yield server


def shown(server: Server) -> set[str]:
    """The digests of the certificates that both ports show."""
    return {shown_digest(port) for port in (server.port, server.grpc_port)}


def test_renewed_files_are_used_by_both_ports_without_a_break(
    server: Server, secret: Secret, made: dict[str, Made], record_attack: RecordAttack
) -> None:
    assert shown(server) == {made["first"].digest}
    waits, renewed = [], [made["rsa"], made["ec"], made["first"], made["ec"]]
    with server.http(None) as http:
        http.get("/livez").raise_for_status()
        for each in renewed:
            secret.put(each.certificate, each.key)
            what = "both ports show the new certificate"
            waits.append(wait_until(lambda: shown(server) == {each.digest}, _LOOKS_S, what))  # noqa: B023  # called here
            http.get("/livez").raise_for_status()  # over the old connection
    record_attack(attempts=len(renewed), figure=f"used after {max(waits):.1f} s")
    # A certificate of another kind leaves none of the old behind for clients that prefer it.
    with pytest.raises(ssl.SSLError):
        shown_digest(server.port, "ECDHE-RSA-AES128-GCM-SHA256")
    assert (
        total(server.metrics(), "headstock_tls_certificate_expiry_timestamp_seconds") > time.time()
    )


def test_what_is_no_use_is_not_taken_and_said_once(
    server: Server, secret: Secret, made: dict[str, Made], record_attack: RecordAttack
) -> None:
    secret.put(*made["ec"][:2])
    wait_until(lambda: shown(server) == {made["ec"].digest}, _LOOKS_S, "a sound start")
    wrong = [
        (made["first"].certificate, made["ec"].key),
        (Path("/dev/null"), made["ec"].key),
        made["past"][:2],
    ]
    record_attack(attempts=len(wrong))
    place = len(server.log())
    for certificate, key in wrong:
        secret.put(certificate, key)
        wait_until(lambda: _is_failing(server), _LOOKS_S, "the metric tells of it")
        assert shown(server) == {made["ec"].digest}
    said = [each for each in server.complaints(place) if "not renewed" in each["event"]]
    assert len(said) == 1  # one trouble, however its reason changes
    secret.put(*made["rsa"][:2])
    wait_until(lambda: shown(server) == {made["rsa"].digest}, _LOOKS_S, "the mended pair is used")
    wait_until(lambda: not _is_failing(server), _LOOKS_S, "the metric tells of the end")


def _is_failing(server: Server) -> bool:
    try:
        return total(server.metrics(), "headstock_tls_renewal_failing") == 1
    except httpx.HTTPError:
        return False
