"""The server as `headstock serve` runs it: uvicorn in this process, with the BentoML service in it.

`bentoml serve service:Headstock` serves the same app from a process that another one watches; it
does not bound connections and heads, nor the time of its drain.
"""

import signal
import sys

import uvicorn

from service.http.protocol import BoundedHttp
from service.runtime import Runtime
from service.settings import Settings
from service.tls import tls_files

DRAIN_S = 12  # longer than any request may take; a client that does not read ends nothing
_KEEP_ALIVE_S = 65  # longer than load balancers keep theirs, so that they close first


def run() -> None:
    """Serve until SIGTERM or SIGINT; returns when all that was accepted is answered."""
    from service.app import to_asgi  # it reads the settings

    settings = Settings()
    Runtime.check(settings)
    tls = tls_files(settings)
    BoundedHttp.most_connections = settings.max_connections
    config = uvicorn.Config(
        to_asgi(),
        host=settings.host,
        port=settings.port,
        http=BoundedHttp,
        ws="none",
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    # uvicorn raises the signal once more when it is done, so that a shell can see it. Here that is
    # an orderly end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        sys.exit(1)
