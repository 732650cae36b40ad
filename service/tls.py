"""TLS for both ports, where the settings name a certificate and its key."""

import ssl
from typing import NamedTuple

from adapters.errors import InvalidInput
from service.settings import Settings


class TlsFiles(NamedTuple):
    """Paths of a certificate chain and its private key, both PEM."""

    certificate: str
    key: str


def tls_files(settings: Settings) -> TlsFiles | None:
    """The files that are set, proven to belong together; None where TLS is not asked for.

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
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
    except OSError as error:  # ssl's own errors are of this kind too
        reason = error.strerror or str(error)
        raise InvalidInput(f"TLS cannot use {certificate} with the key {key}: {reason}") from error
    return files
