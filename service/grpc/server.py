"""The server of gRPC: all methods of the table, health and reflection, on a port of its own."""

import asyncio
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection

from adapters.errors import InvalidInput
from service.certificate import Certificate
from service.grpc.absent import AbsentMethods
from service.grpc.answer import rpc_handler
from service.grpc.connections import Connections
from service.grpc.intake import Intake
from service.grpc.methods import METHODS
from service.grpc.open import OpenHealth, OpenReflection, Room
from service.runtime import Runtime
from service.tls import TlsPair

_MOST_STREAMS = 256  # of one connection
_LOOK_S = 1.0
_FAREWELL_S = 0.1  # for clients to be told, before the next step
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
    ("grpc.max_concurrent_streams", _MOST_STREAMS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    # Clients connect again without notice; calls whose answers nobody reads end with this.
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 20_000),
    # Messages come in as they were sent: gRPC itself would unpack 8 MB into 8 GB.
    ("grpc.per_message_decompression", 0),
    # Clients' keepalives, of 10 s and more, are welcome. By itself gRPC ends a connection for a
    # third one within 5 minutes.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),  # a peer that is gone is found out
    ("grpc.keepalive_timeout_ms", 20_000),
)


class GrpcServer:
    """Serves one runtime. Made in the event loop that it lives in."""

    def __init__(
        self, runtime: Runtime, host: str, port: int, tls: Certificate | None = None
    ) -> None:
        """Port 0: any that is free.

        Raises:
            InvalidInput: it cannot be listened on.
        """
        settings = runtime.settings
        self._connections = connections = Connections(
            settings.max_grpc_connections, settings.max_connections_per_host, runtime.metrics
        )
        self._server = grpc.aio.server(
            options=(
                *_OPTIONS,
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                ("grpc.max_allowed_incoming_connections", connections.most_of_grpc),
            ),
        )
        self._intake = Intake(connections, runtime)
        by_service: defaultdict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = defaultdict(dict)
        for method in METHODS:
            by_service[method.service][method.name] = rpc_handler(method, runtime, self._intake)
        self._room = Room(connections)
        self._health = OpenHealth(self._room, self._intake)
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
        self._server.add_generic_rpc_handlers(
            [OpenReflection(known, self._room).handler(), AbsentMethods()]
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
        self._runtime = runtime
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer from now on."""
        await self._tell(health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        self._connections.watch(self.port)
        if self._runtime.settings.log_loss == "unready":
            self._following = asyncio.get_running_loop().create_task(self._follow_readiness())

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
        end = (
            time.monotonic() + self._runtime.settings.request_s + 1
        )  # longer than any call may take
        if self._following is not None:
            self._following.cancel()
        await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING)
        await asyncio.sleep(_FAREWELL_S)
        self._room.close()
        # A call that meets gRPC's own stop is told CANCELLED, which no client tries again: so those
        # that come late are refused as UNAVAILABLE for as long as others are answered, and a while.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._intake.close(), end - time.monotonic())
        await asyncio.sleep(_FAREWELL_S)
        await self._server.stop(max(0.0, end - time.monotonic()))  # for answers to be read
        self._connections.stop()

    async def _follow_readiness(self) -> None:
        """Tell those who watch when the log is lost, and when it is back."""
        status, was_ready = health_pb2.HealthCheckResponse, True
        while True:
            await asyncio.sleep(_LOOK_S)
            is_ready = self._runtime.is_ready
            if is_ready != was_ready:
                await self._tell(status.SERVING if is_ready else status.NOT_SERVING)
                was_ready = is_ready

    async def _tell(self, status: int) -> None:
        for service in ("", *self._services):
            await self._health.tell(service, status)


def check_pair(pair: TlsPair) -> None:
    """Refuse a certificate that gRPC, which knows fewer kinds of keys, cannot use. InvalidInput."""
    credentials = grpc.ssl_server_credentials([(pair.key, pair.certificate)])
    # The one way to ask is a server, which serves nobody.
    server = grpc.server(ThreadPoolExecutor(1), options=_OPTIONS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            server.add_secure_port(f"unix:{folder}/socket", credentials)
    except RuntimeError as error:
        raise InvalidInput(
            "gRPC cannot use the TLS certificate: its key must be RSA, Ed25519, or EC on P-256, "
            "P-384 or P-521; take another certificate, or no gRPC with HEADSTOCK_GRPC_PORT=0"
        ) from error
    finally:
        server.stop(None)


def _credentials(tls: Certificate) -> grpc.ServerCredentials:
    """Credentials of the pair that is in use when a client connects."""
    last = tls.pair

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """Called at each handshake, in a thread of gRPC's; None: as before."""
        nonlocal last
        if tls.pair is last:
            return None
        last = tls.pair
        return _configuration(last)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(last),
        renewed,  # type: ignore[arg-type]  # None is what gRPC documents for no change
    )


def _configuration(pair: TlsPair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)])
