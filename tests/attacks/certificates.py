"""Certificates of every kind for attacks on TLS, made by openssl."""

import hashlib
import socket
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

EC: Final = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA: Final = ("rsa:2048",)
NOW: Final = ("20200101000000Z", "20991231235959Z")
PAST: Final = ("20200101000000Z", "20210101000000Z")
FUTURE: Final = ("20980101000000Z", "20991231235959Z")


class Made(NamedTuple):
    """Files of a certificate and of its key, and the certificate's sha256."""

    certificate: Path
    key: Path
    digest: str


def make_certificate(
    folder: Path, name: str, kind: Sequence[str] = EC, validity: tuple[str, str] = NOW
) -> Made:
    """A certificate of this machine that is signed by itself."""
    work = folder / f".{name}"
    work.mkdir(parents=True)
    (work / "index").touch()
    (work / "serial").write_text("01")
    (work / "config").write_text(
        "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nserial=serial\nnew_certs_dir=.\n"
        "default_md=sha256\npolicy=any\nx509_extensions=names\n[any]\ncommonName=supplied\n"
        "[names]\nsubjectAltName=IP:127.0.0.1\n"
    )
    certificate, key = folder.absolute() / f"{name}.pem", folder.absolute() / f"{name}.key"
    openssl(
        work,
        *("req", "-new", "-newkey", *kind, "-nodes", "-subj", "/CN=localhost"),
        *("-keyout", str(key), "-out", "request"),
    )
    openssl(
        work,
        *("ca", "-batch", "-config", "config", "-selfsign", "-keyfile", str(key), "-notext"),
        *("-in", "request", "-startdate", validity[0], "-enddate", validity[1]),
        *("-out", str(certificate)),
    )
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    return Made(certificate, key, hashlib.sha256(der).hexdigest())


def openssl(folder: Path, *arguments: str) -> None:
    """Run openssl in a folder."""
    subprocess.run(("openssl", *arguments), cwd=folder, check=True, capture_output=True)


def shown_digest(port: int, ciphers: str | None = None) -> str:
    """The sha256 of the certificate that a port of this machine shows, whatever it is worth."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    if ciphers is not None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain) as secure,
    ):
        return hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest()
