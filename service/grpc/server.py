"""The server of gRPC: all methods of the table, health and reflection, on a port of its own."""

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from adapters.errors import InvalidInput
from service.grpc.answer import rpc_handler
from service.grpc.intake import Intake
from service.grpc.methods import METHODS
from service.grpc.open import OpenHealth, OpenReflection, Room
from service.patience import REQUEST_S
from service.runtime import Runtime
from service.tls import TlsFiles

_MOST_CONNECTIONS = 256
_MOST_STREAMS = 256  # of one connection
_FAREWELL_S = 0.1  # for clients to be told, before the next step
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
    ("grpc.max_concurrent_streams", _MOST_STREAMS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_allowed_incoming_connections", _MOST_CONNECTIONS),
    ("grpc.max_connection_idle_ms", 300_000),
    # Clients connect again without notice; calls whose answers nobody reads end with this.
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 20_000),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # none: 8 KB could be 8 MB
    ("grpc.keepalive_time_ms", 60_000),  # a peer that is gone is found out
    ("grpc.keepalive_timeout_ms", 20_000),
)


class GrpcServer:
    """Serves one runtime. Made in the event loop that it lives in."""

    def __init__(self, runtime: Runtime, host: str, port: int, tls: TlsFiles | None = None) -> None:
        """Port 0: any that is free.

        Raises:
            InvalidInput: it cannot be listened on.
        """
        longest = runtime.settings.max_body_bytes
        self._server = grpc.aio.server(
            options=(*_OPTIONS, ("grpc.max_receive_message_length", longest)),
        )
        self._intake = Intake()
        by_service: defaultdict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = defaultdict(dict)
        for method in METHODS:
            by_service[method.service][method.name] = rpc_handler(method, runtime, self._intake)
        self._room = Room()
        self._health = OpenHealth(self._room)
        self._server.add_generic_rpc_handlers(
            [
                self._health.handler(),
                *(
                    grpc.method_handlers_generic_handler(name, handlers)
                    for name, handlers in by_service.items()
                ),
            ]
        )
        self._services = tuple(by_service)
        known = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            OpenReflection(known, self._room), self._server
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.port: int = (
                self._server.add_secure_port(address, _credentials(tls))
                if tls
                else self._server.add_insecure_port(address)
            )
        except RuntimeError as error:
            raise InvalidInput(
                f"gRPC cannot listen on {address}; choose another port with HEADSTOCK_GRPC_PORT, "
                "or 0 for none"
            ) from error
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer from now on."""
        await self._tell(health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    def leave(self) -> None:
        """Be unhealthy, take no more calls, and answer those that are under way.

        Called in the loop's thread; `stop` waits for the end.
        """
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._leave())

    async def stop(self) -> None:
        """Every call that was taken is answered when this returns."""
        self.leave()
        assert self._stopping is not None, "just made"
        await self._stopping

    async def _leave(self) -> None:
        end = time.monotonic() + REQUEST_S + 1  # longer than any call may take
        await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING)
        await asyncio.sleep(_FAREWELL_S)
        self._room.close()
        # A call that meets gRPC's own stop is told CANCELLED, which no client tries again: so those
        # that come late are refused as UNAVAILABLE for as long as others are answered, and a while.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._intake.close(), end - time.monotonic())
        await asyncio.sleep(_FAREWELL_S)
        await self._server.stop(max(0.0, end - time.monotonic()))  # for answers to be read

    async def _tell(self, status: int) -> None:
        for service in ("", *self._services):
            await self._health.tell(service, status)


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    pair = Path(tls.key).read_bytes(), Path(tls.certificate).read_bytes()
    return grpc.ssl_server_credentials([pair])
