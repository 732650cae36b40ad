"""The registry: the one database of tenants, keys, adapters, versions, releases and audit."""

from adapters.registry.database import BUSY_TIMEOUT_S, sqlite_path
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
    CacheMode,
    Change,
    ExpectedRevision,
    KeyInfo,
    LiveKey,
    Mark,
    Published,
    Release,
    Snapshot,
    Tenant,
    TenantState,
    Version,
)
from adapters.registry.registry import Registry

__all__ = [
    "BUSY_TIMEOUT_S",
    "ActiveRelease",
    "AdapterInfo",
    "AuditRow",
    "CacheMode",
    "Change",
    "ExpectedRevision",
    "KeyInfo",
    "LiveKey",
    "Mark",
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
    "sqlite_path",
]
