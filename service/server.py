"""The server as `headstock serve` runs it: uvicorn in this process, with the BentoML service in it.

`bentoml serve service:Headstock` serves the same app from a process that another one watches; it
does not bound connections and heads, nor the time of its drain.
"""

import resource
import signal
import sys
from typing import Any

import uvicorn
import uvloop

from service.http.protocol import HEAD_S, BoundedHttp
from service.runtime import Runtime
from service.settings import Settings
from service.tls import tls_files

DRAIN_S = 12  # longer than any request may take; a client that does not read ends nothing
_KEEP_ALIVE_S = 65  # longer than load balancers keep theirs, so that they close first


class BoundedLoop(uvloop.Loop):
    """uvloop with bounds on TLS, for which uvicorn has no setting; its own are 60 and 30 s."""

    async def create_server(self, *args: Any, **kwargs: Any) -> Any:
        """As uvloop's."""
        if kwargs.get("ssl") is not None:
            kwargs |= {"ssl_handshake_timeout": HEAD_S, "ssl_shutdown_timeout": 1.0}
        return await super().create_server(*args, **kwargs)


def run() -> None:
    """Serve until SIGTERM or SIGINT; returns when all that was accepted is answered."""
    from service.app import to_asgi  # it reads the settings

    settings = Settings()
    Runtime.check(settings)
    tls = tls_files(settings)
    # Connections of both ports and the registry share what the system lets a process open.
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    BoundedHttp.most_connections = settings.max_connections
    config = uvicorn.Config(
        to_asgi(),
        host=settings.host,
        port=settings.port,
        http=BoundedHttp,
        ws="none",
        loop="service.server:BoundedLoop",
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
