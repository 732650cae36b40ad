"""The BentoML shell, the one file that imports bentoml: starts runtime and gRPC, mounts HTTP.

`bentoml serve service:Headstock` and `headstock serve` both end up here. The parent process of
bentoml imports this module too, so nothing is opened, read or started at import.
"""

import os

from service.settings import Settings

os.environ["BENTOML_HOME"] = os.environ.get("BENTOML_HOME") or str(Settings().bentoml_home)
# Its own lines are no JSON, and a client that is refused can make it write them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# BentoML sets this before it imports the service, and prometheus-client would then keep every
# metric in files shared between processes. There is one worker, and its metrics are its own.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

import asyncio
import gc
import logging
from functools import cache
from typing import Any

import bentoml
import threadpoolctl
from bentoml._internal.utils.analytics import usage_stats
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.errors import HeadstockError, Overloaded
from backbone import BackboneError
from service.access import Principal
from service.ask import Ask
from service.certificate import Certificate, Renewal
from service.grpc import GrpcServer, check_pair
from service.http import HttpApp
from service.http.boundary import ErrorBoundary
from service.http.browsers import ANSWER_HEADERS, with_headers
from service.http.paths import sent_path
from service.http.prefix import without_prefix
from service.http.protocol import BoundedHttp
from service.http.routes import BENTOML_PREDICT
from service.log import configure as configure_log
from service.log_capture import capture_output
from service.ports import check_port, listen_address
from service.runtime import Runtime
from service.schemas import PredictRequest
from service.signals import before_sigterm
from service.tls import tls_files
from service.variables import remarks

# `bentoml serve` has asked before it imported this, and remembers what it was told.
usage_stats.do_not_track.cache_clear()

_log = logging.getLogger("headstock.settings")
_settings = Settings()
_OF_BENTOML = frozenset({"/livez", "/readyz", "/healthz", "/schema.json"})
# Who asks in this very process has all of it already.
_IN_PROCESS = Principal("in-process", None, frozenset({"admin"}))
_http = HttpApp(_settings.cors_origins, _settings.root_path)


@cache
def open_certificate() -> Certificate | None:
    """The certificate that both ports share, None without TLS. Raises InvalidInput."""
    files = tls_files(_settings)
    if files is None:
        return None
    certificate = Certificate(files)
    if _settings.grpc_port:
        check_pair(certificate.pair)
    return certificate


class _FrontDoor:
    """Takes requests to our app before bentoml's router sees them: this halves what a call costs.

    Health, the server's own life and what bentoml's clients ask first stay with bentoml; every
    other path is ours. Where these fail, they answer as ours do.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._bentoml = with_headers(ErrorBoundary(app, _http.fail), ANSWER_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            scope = without_prefix(scope, _settings.root_path)
        if scope["type"] == "http" and sent_path(scope) not in _OF_BENTOML:
            await _http(scope, receive, send)
        else:
            await self._bentoml(scope, receive, send)


@bentoml.service(
    name="headstock",
    workers=1,  # a process is a replica: scale by processes or pods
    http={"host": listen_address(_settings.host), "port": _settings.port},
    ssl={
        "enabled": True,
        "certfile": str(_settings.tls_certificate),
        "keyfile": str(_settings.tls_key),
    }
    if _settings.tls_certificate
    else {},
    traffic={"timeout": _settings.bentoml_s},
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
            open_certificate()
            if _settings.grpc_port:  # the other port is taken by bentoml already
                check_port(_settings.host, _settings.grpc_port, "GRPC_PORT")
            Runtime.check(_settings)
        except (HeadstockError, BackboneError) as error:
            raise bentoml.exceptions.BentoMLException(str(error)) from error

    @bentoml.on_startup  # type: ignore[untyped-decorator]  # bentoml types it so
    async def start(self) -> None:
        """Load, open, wire; an error here ends the worker with its reason."""
        configure_log(_settings.log_level)
        for remark in remarks(os.environ, Settings.variables()):
            _log.warning(remark)
        # Matrix products are small and many: BLAS threads would only get in each other's way.
        threadpoolctl.threadpool_limits(limits=1, user_api="blas")
        self.runtime: Runtime | None = await Runtime.start(_settings)
        self.grpc: GrpcServer | None = None
        certificate = open_certificate()
        if _settings.grpc_port:
            self.grpc = GrpcServer(self.runtime, _settings.host, _settings.grpc_port, certificate)
            await self.grpc.start()
        self.renewal: Renewal | None = None
        if certificate is not None:
            is_usable = check_pair if _settings.grpc_port else lambda _: None
            self.renewal = Renewal(certificate, self.runtime.metrics.tls(), is_usable)
            self.renewal.start()
        _http.runtime = self.runtime
        BoundedHttp.held.report_to(self.runtime.metrics)
        # What is there now stays. Collections that walk it again and again cost a tenth of the CPU
        # and stop all requests for up to 0.1 s.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 100)
        # uvicorn drains first and calls `stop` last; readiness goes down before that.
        loop = asyncio.get_running_loop()
        before_sigterm(lambda: loop.call_soon_threadsafe(self._leave))
        capture_output()

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
        if self.renewal is not None:
            await self.renewal.stop()
        runtime, self.runtime = self.runtime, None
        if runtime is not None:
            await runtime.stop()

    async def __is_ready__(self) -> bool:
        """`/readyz`: started, not asked to stop, and with a log, where that is asked for."""
        runtime: Runtime | None = getattr(self, "runtime", None)
        return runtime is not None and runtime.is_ready


# bentoml types the decorated class as it was; it is a bentoml.Service now.
Headstock.add_asgi_middleware(_FrontDoor)  # type: ignore[attr-defined]


def to_asgi() -> ASGIApp:
    """The service as an app, its start and stop in the app's lifespan; once in a process.

    The front door stands before bentoml's own middlewares here: their timer would answer in a form
    of its own, were the process stopped for longer and woken again.
    """
    return _FrontDoor(Headstock.to_asgi())  # type: ignore[attr-defined]
