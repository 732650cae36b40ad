"""`python -m service.ready`: exit status 0 where the server of these settings is ready.

For containers' health checks, which know neither the port nor whether it speaks TLS.
"""

import ssl
import sys
import urllib.request

from service.settings import Settings

_PATIENCE_S = 2.0


def is_ready(settings: Settings) -> bool:
    """Ask this machine's server."""
    has_tls = settings.tls_certificate is not None
    # Its certificate is of a name that this machine need not have.
    context = ssl._create_unverified_context() if has_tls else None
    host = "[::1]" if ":" in settings.host else "127.0.0.1"
    url = f"{'https' if has_tls else 'http'}://{host}:{settings.port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_S, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not is_ready(Settings()))
