"""The registry: the one database of tenants, keys, adapters, versions, releases and audit."""

from adapters.registry.keys import (
    NewKey,
    Scope,
    new_key,
    parse_key,
    same_digest,
    secret_digest,
)
from adapters.registry.records import (
    ActiveRelease,
    AdapterInfo,
    AuditRow,
    Change,
    KeyInfo,
    LiveKey,
    Published,
    Release,
    Snapshot,
    Tenant,
    TenantState,
    Version,
)
from adapters.registry.registry import Registry

__all__ = [
    "ActiveRelease",
    "AdapterInfo",
    "AuditRow",
    "Change",
    "KeyInfo",
    "LiveKey",
    "NewKey",
    "Published",
    "Registry",
    "Release",
    "Scope",
    "Snapshot",
    "Tenant",
    "TenantState",
    "Version",
    "new_key",
    "parse_key",
    "same_digest",
    "secret_digest",
]
