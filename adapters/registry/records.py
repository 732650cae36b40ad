"""What the registry answers with. Times are UTC; digests are sha256 as 64 hex digits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from adapters.errors import QuotaExceeded
from adapters.registry.keys import Scope


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer."""

    name: str
    created_at: datetime


# Whether a server may keep features of a tenant's inputs: not at all, for this tenant alone, or
# for all tenants that share.
CacheMode = Literal["off", "own", "shared"]


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as it may be shown: all but its secret. `tenant` is None for an admin key."""

    id: str
    tenant: str | None
    scopes: tuple[Scope, ...]
    created_at: datetime
    revoked_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """An immutable adapter file in a listing; `size` is in bytes, `backbone` a digest."""

    number: int
    digest: str
    backbone: str
    size: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Version(VersionRow):
    """One with its manifest, which may be megabytes of JSON."""

    manifest: str


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a publish brings: the file's bytes and what was read from them.

    `upload` names the upload that has the bytes already, in parts.
    """

    digest: str
    backbone: str
    manifest: str
    content: bytes = field(repr=False)
    upload: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Which version answers. `revision` grows by one a change; a rollback goes back to `parent`."""

    revision: int
    stable: int
    parent: int | None
    created_at: datetime


# What a compare-and-set asks of the present release: nothing, that there is one, its revision
# (0: that there is none yet), one of several revisions.
ExpectedRevision = int | frozenset[int] | Literal["any"] | None


@dataclass(frozen=True, slots=True)
class Published:
    """A publish's outcome; `release` is the one now in force, None where there is none."""

    version: Version
    created: bool
    release: Release | None


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """An adapter in a listing; `latest` is its newest version, None where all were deleted."""

    name: str
    latest: int | None
    release: Release | None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One change: who did what to whom."""

    seq: int
    at: datetime
    actor: str
    action: str
    tenant: str | None
    adapter: str | None
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the registry's history: the id of the history, and the newest change in it.

    The time (None before the first change) is a part of it: a copy that was put in place by hand
    has the same id, and grows back to the same numbers with other changes.
    """

    seq: int
    at: datetime | None
    history: str


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the change feed; a `tenant` of None means the admin keys."""

    mark: Mark
    tenant: str | None


@dataclass(frozen=True, slots=True)
class LiveKey:
    """A key that was not revoked when it was read; whether it has expired is asked at each use."""

    id: str
    secret_sha256: str = field(repr=False)
    scopes: tuple[Scope, ...]
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ActiveRelease:
    """An adapter's release, as routing needs it: the stable version with its digests."""

    adapter: str
    revision: int
    number: int
    digest: str
    backbone: str


@dataclass(frozen=True, slots=True)
class Quota:
    """What a tenant may have, and ask in a minute, at most; None: without a limit."""

    adapters: int | None = None
    versions: int | None = None
    bytes: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a tenant has."""

    adapters: int
    versions: int
    bytes: int


@dataclass(frozen=True, slots=True)
class UploadRoom:
    """How many bytes a tenant's quota leaves for one more file; None: no limit."""

    most: int | None = None
    refusal: str = ""

    def check(self, size: int) -> None:
        """Raise QuotaExceeded for a file of more bytes."""
        if self.most is not None and size > self.most:
            raise QuotaExceeded(self.refusal)


@dataclass(frozen=True, slots=True)
class TenantState:
    """All that a server needs to authenticate and route one tenant; releases by adapter name.

    `made` tells a tenant from one that had its name before: the row's number, and the moment.
    """

    keys: tuple[LiveKey, ...]
    releases: Mapping[str, ActiveRelease]
    feature_cache: CacheMode = "off"
    quota: Quota = Quota()
    made: tuple[int, datetime] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tenants as they were at one moment: after the change at `mark` and before the next one."""

    mark: Mark
    tenants: Mapping[str, TenantState]
    admin_keys: tuple[LiveKey, ...]
