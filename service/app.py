"""The BentoML shell, the one file that imports bentoml: starts runtime and gRPC, mounts HTTP.

`bentoml serve service:Headstock` and `headstock serve` both end up here. The parent process of
bentoml imports this module too, so nothing is opened, read or started at import.
"""

import os

os.environ["BENTOML_DO_NOT_TRACK"] = "True"
# Its own lines are no JSON, and a client that is refused can make it write them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# BentoML sets this before it imports the service, and prometheus-client would then keep every
# metric in files shared between processes. There is one worker, and its metrics are its own.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

import asyncio
import gc
from typing import Any

import bentoml
import threadpoolctl
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.errors import HeadstockError, Overloaded
from backbone import BackboneError
from service.access import Principal
from service.ask import Ask
from service.grpc import GrpcServer
from service.http import HttpApp
from service.http.routes import BENTOML_PREDICT
from service.log import configure as configure_log
from service.ports import check_port
from service.runtime import Runtime
from service.schemas import PredictRequest
from service.settings import Settings
from service.signals import before_sigterm
from service.tls import tls_files

_settings = Settings()
_OF_BENTOML = frozenset({"/livez", "/readyz", "/healthz", "/schema.json"})
# Who asks in this very process has all of it already.
_IN_PROCESS = Principal("in-process", None, frozenset({"admin"}))
_http = HttpApp(_settings.cors_origins)


class _FrontDoor:
    """Takes requests to our app before bentoml's router sees them: this halves what a call costs.

    Health, the server's own life and what bentoml's clients ask first stay with bentoml; every
    other path is ours.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._bentoml = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and scope["path"] not in _OF_BENTOML:
            await _http(scope, receive, send)
        else:
            await self._bentoml(scope, receive, send)


@bentoml.service(
    name="headstock",
    workers=1,  # a process is a replica: scale by processes or pods
    http={"host": _settings.host, "port": _settings.port},
    ssl={
        "enabled": True,
        "certfile": str(_settings.tls_certificate),
        "keyfile": str(_settings.tls_key),
    }
    if _settings.tls_certificate
    else {},
    traffic={"timeout": 10},  # its timers live as long as the timeout: a long one leaks memory
    metrics={"enabled": False},  # labelled with raw paths, so without bound; /metrics is ours
    logging={"access": {"enabled": False}},  # lets a path forge log lines
    tracing={"excluded_urls": ".*"},  # costs 300 µs a call
)
class Headstock:
    """One backbone, a model of its own for every tenant."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]  # bentoml types it so
    @staticmethod
    def check() -> None:
        """Runs in the parent, before there is a worker: what cannot start ends here.

        bentoml would start a worker that fails again and again, for ever.
        """
        try:
            tls_files(_settings)
            if _settings.grpc_port:  # the other port is taken by bentoml already
                check_port(_settings.host, _settings.grpc_port, "GRPC_PORT")
            Runtime.check(_settings)
        except (HeadstockError, BackboneError) as error:
            raise bentoml.exceptions.BentoMLException(str(error)) from error

    @bentoml.on_startup  # type: ignore[untyped-decorator]  # bentoml types it so
    async def start(self) -> None:
        """Load, open, wire; an error here ends the worker with its reason."""
        configure_log(_settings.log_level)
        # Matrix products are small and many: BLAS threads would only get in each other's way.
        threadpoolctl.threadpool_limits(limits=1, user_api="blas")
        self.runtime: Runtime | None = await Runtime.start(_settings)
        self.grpc: GrpcServer | None = None
        if _settings.grpc_port:
            self.grpc = GrpcServer(
                self.runtime, _settings.host, _settings.grpc_port, tls_files(_settings)
            )
            await self.grpc.start()
        _http.runtime = self.runtime
        # What is there now stays. Collections that walk it again and again cost a tenth of the CPU
        # and stop all requests for up to 0.1 s.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 100)
        # uvicorn drains first and calls `stop` last; readiness goes down before that.
        loop = asyncio.get_running_loop()
        before_sigterm(lambda: loop.call_soon_threadsafe(self._leave))

    @bentoml.api(route=BENTOML_PREDICT)  # type: ignore[untyped-decorator]  # bentoml types it so
    async def predict(
        self, tenant: str, adapter: str, inputs: list[str], top_k: int = 1
    ) -> dict[str, Any]:
        """Answer texts with a tenant's adapter.

        BentoML's clients learn of it by `/schema.json`. What they send is answered by our own route
        of this path, with keys and bounds, before bentoml would read a body; a service that depends
        on this one in the same process comes in here.
        """
        if self.runtime is None:
            raise Overloaded("the server is stopping")
        request = PredictRequest(inputs=inputs, top_k=top_k)
        answer = await self.runtime.pipeline.predict(Ask(_IN_PROCESS), tenant, adapter, request)
        return answer.model_dump(mode="json")

    def _leave(self) -> None:
        if self.runtime is not None:
            self.runtime.life.is_leaving = True
        if self.grpc is not None:
            self.grpc.leave()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # bentoml types it so
    async def stop(self) -> None:
        """Called when no request is under way any more."""
        if self.grpc is not None:
            await self.grpc.stop()
        runtime, self.runtime = self.runtime, None
        if runtime is not None:
            await runtime.stop()

    async def __is_ready__(self) -> bool:
        """`/readyz`: started, and not asked to stop."""
        runtime: Runtime | None = getattr(self, "runtime", None)
        return runtime is not None and not runtime.life.is_leaving


# bentoml types the decorated class as it was; it is a bentoml.Service now.
Headstock.add_asgi_middleware(_FrontDoor)  # type: ignore[attr-defined]


def to_asgi() -> ASGIApp:
    """The service as an app, its start and stop in the app's lifespan; once in a process."""
    app: ASGIApp = Headstock.to_asgi()  # type: ignore[attr-defined]
    return app
