"""TLS for both ports, if the settings name a certificate and its key: what the two files hold."""

import os
import ssl
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from adapters.errors import InvalidInput
from service.settings import Settings

_MOST_BYTES: Final = 2**20  # of a file; a chain of certificates has some kilobytes
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


class TlsFiles(NamedTuple):
    """Paths of a certificate chain and its private key, both PEM."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class TlsPair:
    """A certificate chain and its private key, proven to belong together.

    The chain is valid from `begins_at` to `ends_at`: where all of its certificates are.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    begins_at: datetime
    ends_at: datetime

    def complaint(self, now: datetime) -> str | None:
        """Why clients refuse this certificate `now`; None if its dates are no reason."""
        if now >= self.ends_at:
            return f"expired on {_shown(self.ends_at)}"
        if now < self.begins_at:
            return f"is not valid before {_shown(self.begins_at)}"
        return None


class _Encrypted(Exception):
    """OpenSSL asks for a password."""


def tls_files(settings: Settings) -> TlsFiles | None:
    """The files that are set, proven to belong together; None if TLS is not asked for.

    Raises:
        InvalidInput: one of the two is missing, cannot be read, or is not the other's.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InvalidInput(
            "TLS needs both HEADSTOCK_TLS_CERTIFICATE and HEADSTOCK_TLS_KEY; one of them is not set"
        )
    files = TlsFiles(str(certificate.absolute()), str(key.absolute()))
    read_pair(files)
    return files


def read_pair(files: TlsFiles) -> TlsPair:
    """What the files hold now, each read once: they may be replaced meanwhile. InvalidInput."""
    certificate, key = _read(files.certificate), _read(files.key)
    blocks = _certificates(certificate)
    if not blocks:
        raise InvalidInput(
            f"TLS cannot use {files.certificate}: it has no certificate in PEM{_hint(certificate)}"
        )
    if b"PRIVATE KEY-----" not in key:
        raise InvalidInput(f"TLS cannot use {files.key}: it has no private key in PEM{_hint(key)}")
    try:
        make_context(certificate, key)
    except _Encrypted:
        raise InvalidInput(
            f"TLS cannot use {files.key}: the key is encrypted, and a server has nobody to ask for "
            "its password; decrypt it with: openssl pkey -in KEY -out KEY.plain"
        ) from None
    except OSError as error:  # ssl's own errors are of this kind too
        raise InvalidInput(
            f"TLS cannot use {files.certificate} with the key {files.key}: {_reason(error)}"
        ) from error
    begins, ends = zip(*map(_validity, blocks), strict=True)
    return TlsPair(certificate, key, max(begins), min(ends))


def make_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """A context of the server's side. Raises OSError if the two do not go together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _as_file(certificate) as certificate_file, _as_file(key) as key_file:
        # Without this, OpenSSL asks the terminal for a password, and waits.
        context.load_cert_chain(certificate_file, key_file, password=_refuse_to_ask)
    return context


def _refuse_to_ask() -> NoReturn:
    raise _Encrypted


def _read(path: str) -> bytes:
    """A regular file's content; anything else could make the server wait for ever."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise InvalidInput(f"TLS cannot use {path}: it is not a regular file")
            with os.fdopen(file, "rb", closefd=False) as opened:
                content = opened.read(_MOST_BYTES + 1)
        finally:
            os.close(file)
    except OSError as error:
        raise InvalidInput(f"TLS cannot read {path}: {error.strerror or error}") from error
    if len(content) > _MOST_BYTES:
        raise InvalidInput(f"TLS cannot use {path}: it has more than {_MOST_BYTES} bytes")
    return content


def _hint(content: bytes) -> str:
    """What the file may be instead."""
    if not content:
        return "; it is empty"
    if content.startswith(b"\x30"):
        return "; it may be DER: convert it with openssl x509 (or pkey) -inform der"
    if _BEGIN in content or b"PRIVATE KEY-----" in content:
        return "; are HEADSTOCK_TLS_CERTIFICATE and HEADSTOCK_TLS_KEY swapped?"
    return ""


def _reason(error: OSError) -> str:
    said = getattr(error, "reason", None) or error.strerror or str(error)
    if said in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):  # of one kind, of two kinds
        return "the key is not the one of the first certificate"
    return f"OpenSSL says {said}"


def _certificates(content: bytes) -> list[bytes]:
    """The PEM blocks of certificates, in their order."""
    parts = (part.partition(_END) for part in content.split(_BEGIN)[1:])
    return [_BEGIN + inside + _END + b"\n" for inside, end, _ in parts if end]


def _validity(certificate: bytes) -> tuple[datetime, datetime]:
    """From when to when one certificate is valid."""
    with _as_file(certificate) as file:
        # The ssl module reads no certificate publicly, other than a peer's that it trusts.
        try:
            read = ssl._ssl._test_decode_cert(file)  # type: ignore[attr-defined]  # not in its stubs
        except (OSError, ValueError) as error:
            raise InvalidInput(f"TLS cannot read a certificate of the chain: {error}") from error
    begins, ends = (ssl.cert_time_to_seconds(read[name]) for name in ("notBefore", "notAfter"))
    return datetime.fromtimestamp(begins, UTC), datetime.fromtimestamp(ends, UTC)


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path at which OpenSSL, which takes no bytes, reads `content`; on Linux not on a disk."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
        return
    with os.fdopen(os.memfd_create("tls", os.MFD_CLOEXEC), "wb") as memory:
        memory.write(content)
        memory.flush()
        yield str(Path("/proc/self/fd") / str(memory.fileno()))


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
