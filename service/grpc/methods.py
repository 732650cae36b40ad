"""The method table: what is served, what it needs, and the tests of access are all made from it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.message import Message

from service.access import Need
from service.ask import loggable
from service.call import Call
from service.grpc import oip, registry
from service.oip.names import ModelName
from service.protos import inference_pb2, registry_pb2

# Requests are typed by each handler: a table of all of them cannot be.
Handler = Callable[[Call, Any], Awaitable[Message]]
StreamHandler = Callable[[Call, Any, AsyncIterator[Any]], Awaitable[Message]]
INFERENCE = "inference.GRPCInferenceService"
REGISTRY = "headstock.v1.Registry"


@dataclass(frozen=True, slots=True)
class Method:
    """One method of one service. `scope` None: no key is asked for.

    `names` is the field of the request that names a tenant, by itself or in the name of a model; of
    a stream it is in the first message, which `stream` gets before the others. An empty one may
    stand for all that the key's tenant has. `is_charged` says that a call counts against its
    tenant's quota of requests.
    """

    service: str
    name: str
    request: type[Message]
    answer: type[Message]
    scope: Need | None
    unary: Handler | None = None
    stream: StreamHandler | None = None
    names: Literal["tenant", "name", "model_name"] | None = None
    is_charged: bool = False
    is_name_optional: bool = False

    @property
    def path(self) -> str:
        """As it is called on the wire."""
        return f"/{self.service}/{self.name}"

    def tenant(self, request: Message) -> str | None:
        """The tenant that a request is about. Raises NotFound for what is no model."""
        if self.names is None or self._names_all(request):
            return None
        named: str = getattr(request, self.names)
        return named if self.names == "tenant" else ModelName.parse(named).tenant

    def named(self, request: Message) -> dict[str, object]:
        """Tenant and adapter of a request that was let in, where they can be called so."""
        if self.names is None or self._names_all(request):
            return {}
        if self.names == "tenant":
            return loggable(self.tenant(request), getattr(request, "adapter", None))
        return loggable(*ModelName.parse(getattr(request, self.names)))

    def _names_all(self, request: Message) -> bool:
        return self.is_name_optional and not getattr(request, self.names or "")


def _oip(
    name: str,
    unary: Handler,
    scope: Need | None,
    names: Literal["name", "model_name"] | None = None,
    is_charged: bool = False,
    is_name_optional: bool = False,
) -> Method:
    """A method of the Open Inference Protocol, whose messages are called after it."""
    request = getattr(inference_pb2, f"{name}Request")
    answer = getattr(inference_pb2, f"{name}Response")
    return Method(
        INFERENCE, name, request, answer, scope, unary, None, names, is_charged, is_name_optional
    )


def _registry(
    name: str,
    unary: Handler,
    scope: Need,
    request: type[Message],
    answer: type[Message],
) -> Method:
    return Method(REGISTRY, name, request, answer, scope, unary, names="tenant")


METHODS: tuple[Method, ...] = (
    _oip("ServerLive", oip.server_live, None),
    _oip("ServerReady", oip.server_ready, None),
    _oip("ServerMetadata", oip.server_details, "any"),
    _oip("ModelReady", oip.model_ready, "any", "name"),
    _oip("ModelMetadata", oip.model_details, "any", "name"),
    _oip("ModelInfer", oip.model_infer, "predict", "model_name", is_charged=True),
    _oip("RepositoryIndex", oip.model_index, "any"),
    _oip("ModelConfig", oip.model_config, "any", "name"),
    _oip("ModelStatistics", oip.model_statistics, "any", "name", is_name_optional=True),
    Method(
        REGISTRY,
        "Publish",
        registry_pb2.PublishRequest,
        registry_pb2.PublishResponse,
        "publish",
        stream=registry.publish,
        names="tenant",
    ),
    _registry(
        "ListAdapters",
        registry.list_adapters,
        "any",
        registry_pb2.ListAdaptersRequest,
        registry_pb2.ListAdaptersResponse,
    ),
    _registry(
        "ListVersions",
        registry.list_versions,
        "any",
        registry_pb2.ListVersionsRequest,
        registry_pb2.ListVersionsResponse,
    ),
    _registry(
        "GetVersion",
        registry.get_version,
        "any",
        registry_pb2.GetVersionRequest,
        registry_pb2.Version,
    ),
    _registry(
        "DeleteVersion",
        registry.delete_version,
        "publish",
        registry_pb2.DeleteVersionRequest,
        registry_pb2.DeleteResponse,
    ),
    _registry(
        "DeleteAdapter",
        registry.delete_adapter,
        "publish",
        registry_pb2.DeleteAdapterRequest,
        registry_pb2.DeleteResponse,
    ),
    _registry(
        "DeleteTenant",
        registry.delete_tenant,
        "admin",
        registry_pb2.DeleteTenantRequest,
        registry_pb2.DeleteResponse,
    ),
    _registry(
        "GetRelease",
        registry.get_release,
        "any",
        registry_pb2.GetReleaseRequest,
        registry_pb2.Release,
    ),
    _registry(
        "SetRelease",
        registry.set_release,
        "publish",
        registry_pb2.SetReleaseRequest,
        registry_pb2.Release,
    ),
    _registry(
        "Rollback",
        registry.rollback,
        "publish",
        registry_pb2.RollbackRequest,
        registry_pb2.Release,
    ),
)
