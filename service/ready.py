"""`python -m service.ready`: exit status 0 if the server of these settings is ready.

For containers' health checks, which know neither the address nor whether it speaks TLS.
"""

import http.client
import ssl
import sys

from service.ports import listen_address
from service.settings import Settings

_PATIENCE_S = 2.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what listens on all interfaces is asked on this one


def is_ready(settings: Settings) -> bool:
    """Ask the server at the address that it listens on, past every proxy of the environment."""
    try:
        host = own_address(settings.host)
        connection = _connection(host, settings)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def own_address(host: str) -> str:
    """An address under which this machine reaches what listens on `host`."""
    address = listen_address(host)
    return _ANY.get(address, address)


def _connection(host: str, settings: Settings) -> http.client.HTTPConnection:
    if settings.tls_certificate is None:
        return http.client.HTTPConnection(host, settings.port, timeout=_PATIENCE_S)
    # Its certificate is of a name that this machine need not have.
    context = ssl._create_unverified_context()
    return http.client.HTTPSConnection(host, settings.port, timeout=_PATIENCE_S, context=context)


if __name__ == "__main__":
    sys.exit(not is_ready(Settings()))
