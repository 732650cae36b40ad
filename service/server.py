"""The server as `headstock serve` runs it: uvicorn in this process, with the BentoML service in it.

`bentoml serve service:Headstock` serves the same app from a process that another one watches; it
does not bound connections and heads, nor the time of its drain.
"""

import os
import resource
import signal
import sys
from types import FrameType
from typing import Any

import uvicorn
import uvloop

from service.http.connections import HttpConnections
from service.http.protocol import HEAD_S, BoundedHttp
from service.runtime import Runtime
from service.settings import Settings
from service.signals import settle_signals


class BoundedLoop(uvloop.Loop):
    """uvloop with bounds on TLS, for which uvicorn has no setting; its own are 60 and 30 s."""

    async def create_server(self, *args: Any, **kwargs: Any) -> Any:
        """As uvloop's."""
        if kwargs.get("ssl") is not None:
            kwargs |= {"ssl_handshake_timeout": HEAD_S, "ssl_shutdown_timeout": 1.0}
        return await super().create_server(*args, **kwargs)


class PromptServer(uvicorn.Server):
    """uvicorn's server, which would load all backbones before it ends for a signal of that time."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain; before the start is done there is nothing to drain."""
        if not self.started:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    def end_unless_drained(self, sig: int, _: FrameType | None) -> None:
        """End at once, unless the server has ended in order for the signal."""
        if not self.should_exit:
            os._exit(128 + sig)


def run() -> None:
    """Serve until SIGTERM or SIGINT; returns when all that was accepted is answered."""
    _hold_standard_descriptors()
    from service.app import open_certificate, to_asgi  # it reads the settings

    settings = Settings()
    Runtime.check(settings)
    certificate = open_certificate()
    # Connections of both ports and the registry share what the system lets a process open.
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    BoundedHttp.held = HttpConnections(settings.max_connections, settings.max_connections_per_host)
    config = uvicorn.Config(
        to_asgi(),
        host=settings.host,
        port=settings.port,
        http=BoundedHttp,
        ws="none",
        loop="service.server:BoundedLoop",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here asks for a client's address or scheme
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.drain_s,
        ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
    )
    server = PromptServer(config)
    # Until uvicorn takes these signals, and when it is done, since it raises them once more then,
    # so that a shell can see them. Here that is an orderly end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.end_unless_drained)
    settle_signals()
    server.run()
    if not server.started:
        sys.exit(1)


def _hold_standard_descriptors() -> None:
    """Give those that are closed to /dev/null: else the registry could get the number 2.

    Libraries that print errors by that number would then write into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
