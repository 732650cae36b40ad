"""What can be asked of a server: a call a method, with no I/O. Both clients are made of these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from headstock.client import answers

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One request, and the type of its JSON.

    `is_repeatable`: done twice, it leaves what it leaves done once, so that it may be sent again
    where nobody knows whether it was done.
    """

    method: str
    path: str
    is_repeatable: bool
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None


def create_tenant(tenant: str) -> Call[answers.Tenant]:
    """POST /v1/tenants."""
    return Call("POST", "/v1/tenants", False, json={"name": tenant})


def list_tenants(limit: int, after: str | None) -> Call[answers.Tenants]:
    """GET /v1/tenants."""
    return _list("/v1/tenants", limit, after)


def delete_tenant(tenant: str) -> Call[None]:
    """DELETE /v1/tenants/{tenant}; not again, since the name may be another tenant's by then."""
    return Call("DELETE", _tenant(tenant), False)


def get_feature_cache(tenant: str) -> Call[answers.FeatureCache]:
    """GET /v1/tenants/{tenant}/feature-cache."""
    return _get(f"{_tenant(tenant)}/feature-cache")


def set_feature_cache(tenant: str, mode: str) -> Call[answers.FeatureCache]:
    """PUT /v1/tenants/{tenant}/feature-cache; not again, as `set_release`."""
    return Call("PUT", f"{_tenant(tenant)}/feature-cache", False, json={"mode": mode})


def get_quota(tenant: str) -> Call[answers.Quota]:
    """GET /v1/tenants/{tenant}/quota."""
    return _get(f"{_tenant(tenant)}/quota")


def set_quota(tenant: str, quota: answers.Quota) -> Call[answers.Quota]:
    """PUT /v1/tenants/{tenant}/quota; not again, as `set_release`."""
    return Call("PUT", f"{_tenant(tenant)}/quota", False, json=quota)


def get_usage(tenant: str) -> Call[answers.TenantUsage]:
    """GET /v1/tenants/{tenant}/usage."""
    return _get(f"{_tenant(tenant)}/usage")


def create_key(
    tenant: str, scopes: Sequence[str], expires_in_s: int | None
) -> Call[answers.NewKey]:
    """POST /v1/tenants/{tenant}/keys."""
    content = {"scopes": list(scopes), "expires_in_s": expires_in_s}
    return Call("POST", f"{_tenant(tenant)}/keys", False, json=content)


def rotate_key(
    tenant: str, key_id: str, overlap_s: int, expires_in_s: int | None
) -> Call[answers.NewKey]:
    """POST /v1/tenants/{tenant}/keys/{id}/rotate."""
    content = {"overlap_s": overlap_s, "expires_in_s": expires_in_s}
    return Call("POST", f"{_tenant(tenant)}/keys/{_part(key_id)}/rotate", False, json=content)


def list_keys(tenant: str, limit: int, after: str | None) -> Call[answers.Keys]:
    """GET /v1/tenants/{tenant}/keys."""
    return _list(f"{_tenant(tenant)}/keys", limit, after)


def revoke_key(tenant: str, key_id: str) -> Call[None]:
    """DELETE /v1/tenants/{tenant}/keys/{id}."""
    return Call("DELETE", f"{_tenant(tenant)}/keys/{_part(key_id)}", True)


def list_audit(tenant: str | None, limit: int, after: int | None) -> Call[answers.AuditTrail]:
    """GET /v1/audit, or a tenant's."""
    return _list("/v1/audit" if tenant is None else f"{_tenant(tenant)}/audit", limit, after)


def push(content: bytes, tenant: str, adapter: str, activate: bool) -> Call[answers.Published]:
    """POST an adapter file as a new version.

    The same bytes are the same version; but to let it answer twice could undo a change between.
    """
    path = f"{_adapter(tenant, adapter)}/versions"
    params = {"activate": str(activate).lower()}
    return Call("POST", path, not activate, params=params, content=content)


def list_adapters(tenant: str, limit: int, after: str | None) -> Call[answers.Adapters]:
    """GET /v1/tenants/{tenant}/adapters."""
    return _list(f"{_tenant(tenant)}/adapters", limit, after)


def delete_adapter(tenant: str, adapter: str) -> Call[None]:
    """DELETE an adapter; not again, since the name may be another adapter's by then."""
    return Call("DELETE", _adapter(tenant, adapter), False)


def list_versions(
    tenant: str, adapter: str, limit: int, after: int | None
) -> Call[answers.Versions]:
    """GET the versions of an adapter."""
    return _list(f"{_adapter(tenant, adapter)}/versions", limit, after)


def get_version(tenant: str, adapter: str, version: int) -> Call[answers.Version]:
    """GET one version with its manifest."""
    return _get(f"{_adapter(tenant, adapter)}/versions/{version}")


def delete_version(tenant: str, adapter: str, version: int) -> Call[None]:
    """DELETE a version; not again, since the adapter may be another one by then."""
    return Call("DELETE", f"{_adapter(tenant, adapter)}/versions/{version}", False)


def get_release(tenant: str, adapter: str) -> Call[answers.Release]:
    """GET the release of an adapter."""
    return _get(f"{_adapter(tenant, adapter)}/release")


def set_release(tenant: str, adapter: str, version: int) -> Call[answers.Release]:
    """PUT the release of an adapter; not again, since another may have moved it between."""
    return Call("PUT", f"{_adapter(tenant, adapter)}/release", False, json={"stable": version})


def rollback(tenant: str, adapter: str) -> Call[answers.Release]:
    """POST a rollback."""
    return Call("POST", f"{_adapter(tenant, adapter)}/release/rollback", False)


def _listed(name: str, values: Sequence[str]) -> list[str]:
    """Return the values as a list. Raises TypeError for one string, which is no list of texts."""
    if isinstance(values, str):
        raise TypeError(f"{name} is one string: give a list of them, [{values[:40]!r}]")
    return list(values)


def predict(
    tenant: str, adapter: str, inputs: Sequence[str], top_k: int
) -> Call[answers.Predictions]:
    """POST texts, get predictions."""
    content = {"inputs": _listed("inputs", inputs), "top_k": top_k}
    return Call("POST", f"{_adapter(tenant, adapter)}/predict", True, json=content)


def predict_all(
    tenant: str, adapters: Sequence[str], inputs: Sequence[str], top_k: int
) -> Call[answers.FanOut]:
    """POST texts for several adapters."""
    content = {
        "adapters": _listed("adapters", adapters),
        "inputs": _listed("inputs", inputs),
        "top_k": top_k,
    }
    return Call("POST", f"{_tenant(tenant)}/predict", True, json=content)


def embed(
    model: str, inputs: Sequence[str], dimensions: int | None, input_type: str | None
) -> Call[answers.Embeddings]:
    """POST texts, get vectors."""
    content = {
        "model": model,
        "input": _listed("inputs", inputs),
        "dimensions": dimensions,
        "input_type": input_type,
    }
    return Call("POST", "/v1/embeddings", True, json=content)


def list_backbones(limit: int, after: str | None) -> Call[answers.Backbones]:
    """GET /v1/backbones."""
    return _list("/v1/backbones", limit, after)


def metrics() -> Call[str]:
    """GET the metrics, in Prometheus' text format."""
    return _get("/metrics")


def _get(path: str) -> Call[Any]:
    return Call("GET", path, True)


def _list(path: str, limit: int, after: str | int | None) -> Call[Any]:
    """A page of a list: what follows the item `after`, or the beginning."""
    params = {"limit": str(limit)} | ({} if after is None else {"after": str(after)})
    return Call("GET", path, True, params)


def _tenant(tenant: str) -> str:
    return f"/v1/tenants/{_part(tenant)}"


def _adapter(tenant: str, adapter: str) -> str:
    return f"{_tenant(tenant)}/adapters/{_part(adapter)}"


def _part(name: str) -> str:
    """One segment of a path, whatever is in it."""
    return quote(name, safe="")
