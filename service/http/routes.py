"""The route table: routing, access, OpenAPI and the tests of access are all made from it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel
from starlette.responses import Response

from service import schemas
from service.access import Need
from service.http import handlers, oip
from service.http.call import HttpCall
from service.oip import schemas as schemas_oip

Handler = Callable[[HttpCall], Awaitable[Response]]
BENTOML_PREDICT = "/predict"  # where BentoML's clients find the method `predict`
FILE: Literal["file"] = "file"  # a raw body: the bytes of an adapter file
# How errors are said: by RFC 9457, or as a protocol's clients look for them.
Errors = Literal["problem", "oip", "openai"]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. `scope` None: no key is asked for."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    scope: Need | None
    answers: dict[int, type[BaseModel] | Literal["file", "text"] | None]
    body: type[BaseModel] | Literal["file"] | None = None
    query: tuple[str, ...] = ()
    conditional: bool = False  # takes If-Match
    fails: tuple[int, ...] = field(default=())
    errors: Errors = "problem"
    has_binary: bool = False  # tensors may follow the JSON of requests and answers
    is_body_optional: bool = False  # with none, what it would say has its defaults

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the path's braces."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    @property
    def of_tenant(self) -> bool:
        """Whether the path names a tenant, by itself or in the name of a model."""
        return not {"tenant", "model"}.isdisjoint(self.parameters)

    @property
    def summary(self) -> str:
        """The handler's docstring."""
        return (self.handler.__doc__ or "").strip()


def _oip(
    method: Literal["GET", "POST"],
    path: str,
    handler: Handler,
    scope: Need | None,
    answer: type[BaseModel],
    body: type[BaseModel] | None = None,
    fails: tuple[int, ...] = (),
    has_binary: bool = False,
    is_body_optional: bool = False,
) -> Route:
    """A route of the Open Inference Protocol."""
    answers: dict[int, type[BaseModel] | Literal["file", "text"] | None] = {200: answer}
    return Route(
        method,
        f"/v2{path}",
        handler,
        scope,
        answers,
        body=body,
        fails=fails,
        errors="oip",
        has_binary=has_binary,
        is_body_optional=is_body_optional,
    )


NO_PARAMETERS = frozenset({"stats"})  # stands where {model} does, and no model is called so
PAGE = ("limit", "after")  # the query of every list
_TENANT = "/v1/tenants/{tenant}"
_ADAPTER = f"{_TENANT}/adapters/{{adapter}}"
_VERSION = f"{_ADAPTER}/versions/{{version}}"

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/v1/tenants",
        handlers.create_tenant,
        "admin",
        {201: schemas.TenantInfo},
        body=schemas.NewTenant,
        fails=(409,),
    ),
    Route(
        "GET",
        "/v1/tenants",
        handlers.list_tenants,
        "admin",
        {200: schemas.TenantList},
        query=PAGE,
    ),
    Route("DELETE", _TENANT, handlers.delete_tenant, "admin", {204: None}),
    Route(
        "GET",
        f"{_TENANT}/feature-cache",
        handlers.get_feature_cache,
        "any",
        {200: schemas.FeatureCacheMode},
    ),
    Route(
        "PUT",
        f"{_TENANT}/feature-cache",
        handlers.set_feature_cache,
        "publish",
        {200: schemas.FeatureCacheMode},
        body=schemas.FeatureCacheMode,
    ),
    Route("GET", f"{_TENANT}/quota", handlers.get_quota, "any", {200: schemas.Quota}),
    Route(
        "PUT",
        f"{_TENANT}/quota",
        handlers.set_quota,
        "admin",
        {200: schemas.Quota},
        body=schemas.Quota,
    ),
    Route("GET", f"{_TENANT}/usage", handlers.get_usage, "any", {200: schemas.TenantUsage}),
    Route(
        "POST",
        f"{_TENANT}/keys",
        handlers.create_key,
        "admin",
        {201: schemas.NewKey},
        body=schemas.NewKeyRequest,
        fails=(409,),
    ),
    Route(
        "GET",
        f"{_TENANT}/keys",
        handlers.list_keys,
        "admin",
        {200: schemas.KeyList},
        query=PAGE,
    ),
    Route(
        "POST",
        f"{_TENANT}/keys/{{key}}/rotate",
        handlers.rotate_key,
        "admin",
        {201: schemas.NewKey},
        body=schemas.KeyRotation,
        fails=(409,),
        is_body_optional=True,
    ),
    Route("DELETE", f"{_TENANT}/keys/{{key}}", handlers.revoke_key, "admin", {204: None}),
    Route(
        "GET",
        "/v1/audit",
        handlers.list_audit,
        "admin",
        {200: schemas.AuditTrail},
        query=PAGE,
    ),
    Route(
        "GET",
        f"{_TENANT}/audit",
        handlers.list_tenant_audit,
        "publish",
        {200: schemas.AuditTrail},
        query=PAGE,
    ),
    Route(
        "GET",
        f"{_TENANT}/adapters",
        handlers.list_adapters,
        "any",
        {200: schemas.AdapterList},
        query=PAGE,
    ),
    Route("DELETE", _ADAPTER, handlers.delete_adapter, "publish", {204: None}),
    Route(
        "POST",
        f"{_ADAPTER}/versions",
        handlers.upload_version,
        "publish",
        {201: schemas.Published, 200: schemas.Published},
        body=FILE,
        query=("activate",),
    ),
    Route(
        "GET",
        f"{_ADAPTER}/versions",
        handlers.list_versions,
        "any",
        {200: schemas.VersionList},
        query=PAGE,
    ),
    Route("GET", _VERSION, handlers.get_version, "any", {200: schemas.VersionInfo}),
    Route("DELETE", _VERSION, handlers.delete_version, "publish", {204: None}, fails=(409,)),
    Route("GET", f"{_VERSION}/file", handlers.read_file, "publish", {200: "file"}, fails=(429,)),
    Route("GET", f"{_ADAPTER}/release", handlers.get_release, "any", {200: schemas.ReleaseInfo}),
    Route(
        "PUT",
        f"{_ADAPTER}/release",
        handlers.set_release,
        "publish",
        {200: schemas.ReleaseInfo},
        body=schemas.ReleaseRequest,
        conditional=True,
    ),
    Route(
        "POST",
        f"{_ADAPTER}/release/rollback",
        handlers.rollback,
        "publish",
        {200: schemas.ReleaseInfo},
        conditional=True,
        fails=(409,),
    ),
    Route(
        "POST",
        f"{_ADAPTER}/predict",
        handlers.predict,
        "predict",
        {200: schemas.PredictResponse},
        body=schemas.PredictRequest,
        fails=(429,),
    ),
    Route(
        "POST",
        f"{_TENANT}/predict",
        handlers.predict_all,
        "predict",
        {200: schemas.FanOutResponse},
        body=schemas.FanOutRequest,
        fails=(429,),
    ),
    Route(
        "POST",
        BENTOML_PREDICT,
        handlers.predict_for_bentoml,
        "predict",
        {200: schemas.PredictResponse},
        body=schemas.BentoPredictRequest,
        fails=(404, 429),
    ),
    Route(
        "POST",
        "/v1/embeddings",
        handlers.embeddings,
        "predict",
        {200: schemas.EmbeddingsResponse},
        body=schemas.EmbeddingsRequest,
        fails=(404, 429),
        errors="openai",
    ),
    Route(
        "GET",
        "/v1/models",
        handlers.list_models,
        "any",
        {200: schemas.ModelList},
        query=PAGE,
        fails=(404,),
        errors="openai",
    ),
    Route(
        "GET",
        "/v1/models/{id}",
        handlers.get_model,
        "any",
        {200: schemas.ModelInfo},
        errors="openai",
    ),
    Route(
        "GET",
        "/v1/backbones",
        handlers.list_backbones,
        "any",
        {200: schemas.BackboneList},
        query=PAGE,
    ),
    Route("GET", "/metrics", handlers.metrics, "metrics", {200: "text"}),
    _oip("GET", "", oip.server_details, "any", schemas_oip.ServerMetadata),
    _oip("GET", "/health/live", oip.server_live, None, schemas_oip.ServerLive),
    _oip("GET", "/health/ready", oip.server_ready, None, schemas_oip.ServerReady),
    _oip(
        "POST",
        "/repository/index",
        oip.model_index,
        "any",
        schemas_oip.ModelIndex,
        schemas_oip.IndexRequest,
        is_body_optional=True,
    ),
    _oip("GET", "/models/stats", oip.all_stats, "any", schemas_oip.StatisticsList),
    *(
        route
        for model in ("/models/{model}", "/models/{model}/versions/{version}")
        for route in (
            _oip("GET", model, oip.model_details, "any", schemas_oip.ModelMetadata),
            _oip("GET", f"{model}/ready", oip.model_ready, "any", schemas_oip.ModelReady),
            _oip("GET", f"{model}/config", oip.model_config, "any", schemas_oip.ModelConfig),
            _oip("GET", f"{model}/stats", oip.model_stats, "any", schemas_oip.StatisticsList),
            _oip(
                "POST",
                f"{model}/infer",
                oip.model_infer,
                "predict",
                schemas_oip.InferResponse,
                schemas_oip.InferRequest,
                fails=(429,),
                has_binary=True,
            ),
        )
    ),
)
