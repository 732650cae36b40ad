"""The registry's one door: every method is one transaction.

The rules live beside their tables (`tenants`, `quotas`, `versions`, `releases`, `snapshot`,
`audit`). Any method may raise RegistryUnavailable, and InvalidName for a name that breaks the
naming rule. `actor` is the id of the key that acts, "admin" or "setup"; it goes into the audit
trail. Changes may raise Unauthenticated: the key was revoked meanwhile.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Self

from adapters.registry import (
    audit,
    deletion,
    quotas,
    releases,
    snapshot,
    tenants,
    uploads,
    versions,
)
from adapters.registry.audit import Write
from adapters.registry.database import Database
from adapters.registry.records import (
    AdapterInfo,
    AuditRow,
    CacheMode,
    Change,
    ExpectedRevision,
    Holdings,
    KeyInfo,
    Mark,
    NewVersion,
    Published,
    Quota,
    Release,
    Snapshot,
    Tenant,
    UploadRoom,
    Version,
    VersionRow,
)

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Registry:
    """Tenants, keys, adapters, versions, releases and audit; safe to use from many threads."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    def open(cls, url: str, *, clock: Clock = _now) -> Self:
        """Open `sqlite:///PATH`, made where missing; `clock` returns aware datetimes.

        Raises:
            InvalidInput: not the URL of an SQLite file.
            RegistryUnavailable: the file cannot be used, or a newer Headstock made it.
        """
        return cls(Database.open(url), clock)

    def close(self) -> None:
        """Close the connections; call it when no other thread uses the registry."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Tenants and keys

    def create_tenant(self, name: str, *, actor: str) -> Tenant:
        """Add a tenant; Conflict when the name is taken."""
        with self._write(actor) as write:
            return tenants.create_tenant(write, name)

    def list_tenants(self, *, limit: int | None = None, after: str | None = None) -> list[Tenant]:
        """Tenants by name: at most `limit`, those that follow the name `after`."""
        with self._database.read() as connection:
            return tenants.list_tenants(connection, limit, after)

    def delete_tenant(self, name: str, *, actor: str) -> list[str]:
        """Delete a tenant with its keys, quota and adapters; NotFound without it.

        Returns the digests that no version has any more.
        """
        with self._write(actor) as write:
            return deletion.delete_tenant(write, name)

    def get_feature_cache(self, tenant: str) -> CacheMode:
        """The mode of a tenant's feature cache; NotFound without the tenant."""
        with self._database.read() as connection:
            return tenants.get_feature_cache(connection, tenant)

    def set_feature_cache(self, tenant: str, mode: str, *, actor: str) -> CacheMode:
        """Set the mode of a tenant's feature cache; nothing changes where it is set already.

        Raises:
            InvalidInput: not off, own or shared.
            NotFound: no such tenant.
        """
        with self._write(actor) as write:
            return tenants.set_feature_cache(write, tenant, mode)

    def get_quota(self, tenant: str) -> Quota:
        """A tenant's quota; NotFound without the tenant."""
        with self._database.read() as connection:
            return quotas.get_quota(connection, tenant)

    def set_quota(self, tenant: str, quota: Quota, *, actor: str) -> Quota:
        """Set all limits of a tenant; nothing changes where they are so already.

        Raises:
            InvalidInput: a limit is below 0.
            NotFound: no such tenant.
        """
        with self._write(actor) as write:
            return quotas.set_quota(write, tenant, quota)

    def holdings(self, tenant: str) -> Holdings:
        """What a tenant has; NotFound without the tenant."""
        with self._database.read() as connection:
            return quotas.holdings(connection, tenant)

    def create_key(
        self,
        tenant: str,
        scopes: Collection[str],
        *,
        lifetime: timedelta | None = None,
        actor: str,
    ) -> tuple[KeyInfo, str]:
        """Add a key, which ends after its lifetime, or never; its text is known only now.

        Raises:
            InvalidInput: no scope, an unknown one, or admin.
            NotFound: no such tenant.
            Conflict: the tenant has two live keys.
        """
        with self._write(actor) as write:
            return tenants.create_key(write, tenant, scopes, lifetime)

    def rotate_key(
        self,
        tenant: str,
        key_id: str,
        *,
        overlap: timedelta,
        lifetime: timedelta | None = None,
        actor: str,
    ) -> tuple[KeyInfo, str]:
        """Add a key with the scopes of a live one, which ends after the overlap.

        Raises:
            NotFound: the tenant has no such live key.
            Conflict: with an overlap, the tenant has two live keys.
        """
        with self._write(actor) as write:
            return tenants.rotate_key(write, tenant, key_id, overlap, lifetime)

    def list_keys(
        self, tenant: str, *, limit: int | None = None, after: str | None = None
    ) -> list[KeyInfo]:
        """A tenant's keys, revoked ones too, oldest first: those that follow the key `after`.

        NotFound without the tenant, or that key.
        """
        with self._database.read() as connection:
            return tenants.list_keys(connection, tenant, limit, after)

    def revoke_key(self, tenant: str, key_id: str, *, actor: str) -> None:
        """End a key, once or again; NotFound when it is not this tenant's."""
        with self._write(actor) as write:
            tenants.revoke_key(write, tenant, key_id)

    def ensure_admin_key(self, show: Callable[[str], None] = lambda _: None) -> str | None:
        """Make the admin key on first use and return its text; None when there is one.

        It is kept only if `show` did not fail with it: one that nobody has seen helps nobody.
        """
        with self._write("setup") as write:
            key = tenants.ensure_admin_key(write)
            if key is not None:
                show(key)
            return key

    # Adapters and versions

    def upload_room(self, tenant: str, adapter: str, announced: int = 0) -> UploadRoom:
        """How much of an upload of a length (0: not known) the tenant's quota leaves room for.

        Raises:
            NotFound: no such tenant.
            QuotaExceeded: there is no room for it.
        """
        with self._database.read() as connection:
            return quotas.upload_room(connection, tenant, adapter, announced)

    def has_version(self, tenant: str, adapter: str, digest: str) -> bool:
        """Whether these bytes are a version of an adapter already."""
        with self._database.read() as connection:
            return versions.has_version(connection, tenant, adapter, digest)

    def begin_upload(self, upload: str) -> None:
        """Begin to store a long file in parts, by a new random name."""
        with self._write("upload") as write:
            uploads.begin(write, upload)

    def add_part(self, upload: str, number: int, content: bytes) -> None:
        """Store a part of an upload, the first one of number 0."""
        with self._write("upload") as write:
            uploads.add_part(write, upload, number, content)

    def drop_upload(self, upload: str) -> None:
        """Drop an upload that no version has."""
        with self._write("upload") as write:
            uploads.drop(write, upload)

    def publish(
        self,
        tenant: str,
        adapter: str,
        *,
        digest: str,
        backbone: str,
        manifest: str,
        content: bytes,
        activate: bool,
        actor: str,
        upload: str | None = None,
    ) -> Published:
        """Add a version, and the adapter with its first; the same bytes again are the same version.

        `upload` names an upload whose parts are the content. With `activate` the version answers
        from now on. Without, an adapter's first version leaves it with no release.

        Raises:
            InvalidInput: a digest is malformed, or not that of the content.
            NotFound: no such tenant.
            QuotaExceeded: the tenant would have more than it may.
            RegistryUnavailable: the upload's parts are not all there.
        """
        new = NewVersion(digest, backbone, manifest, content, upload)
        versions.check_new(new)
        with self._write(actor) as write:
            row = versions.ensure_adapter(write, tenant, adapter)
            version, created = versions.add(write, row, new)
            if created:
                quotas.check_holdings(write, tenant)
            if activate:
                release = releases.set_stable(write, row, version.number, None)
                return Published(version, created, release)
            return Published(version, created, releases.current(write.connection, row))

    def list_adapters(
        self, tenant: str, *, limit: int | None = None, after: str | None = None
    ) -> list[AdapterInfo]:
        """A tenant's adapters by name: those that follow `after`; NotFound without the tenant."""
        with self._database.read() as connection:
            return versions.list_adapters(connection, tenant, limit, after)

    def list_versions(
        self, tenant: str, adapter: str, *, limit: int | None = None, after: int | None = None
    ) -> list[VersionRow]:
        """An adapter's versions, oldest first: those that follow the number `after`.

        NotFound without the adapter.
        """
        with self._database.read() as connection:
            row = versions.find_adapter(connection, tenant, adapter)
            return versions.list_versions(connection, row, limit, after)

    def delete_adapter(self, tenant: str, adapter: str, *, actor: str) -> list[str]:
        """Delete an adapter with its versions and release; NotFound without it.

        Returns the digests that no version has any more.
        """
        with self._write(actor) as write:
            row = versions.find_adapter(write.connection, tenant, adapter)
            return deletion.delete_adapter(write, row)

    def delete_version(self, tenant: str, adapter: str, number: int, *, actor: str) -> list[str]:
        """Delete a version that is not released; its number is never given again.

        Returns the digests that no version has any more.

        Raises:
            NotFound: no such adapter or version.
            Conflict: the version is released.
        """
        with self._write(actor) as write:
            row = versions.find_adapter(write.connection, tenant, adapter)
            return deletion.delete_version(write, row, number)

    def get_version(self, tenant: str, adapter: str, number: int) -> Version:
        """One version; NotFound without it."""
        with self._database.read() as connection:
            row = versions.find_adapter(connection, tenant, adapter)
            return versions.get_version(connection, row, number)

    def read_content(self, digest: str) -> bytes:
        """A version's bytes, verified; NotFound without them, whoever's they are.

        Who may read them is the caller's question: this asks for no tenant.
        """
        with self._database.read() as connection:
            return versions.read_content(connection, digest)

    # Releases

    def get_release(self, tenant: str, adapter: str) -> Release | None:
        """The release in force, None before the first; NotFound without the adapter."""
        with self._database.read() as connection:
            return releases.current(connection, versions.find_adapter(connection, tenant, adapter))

    def set_release(
        self,
        tenant: str,
        adapter: str,
        stable: int,
        *,
        expected_revision: ExpectedRevision = None,
        actor: str,
    ) -> Release:
        """Let version `stable` answer; nothing changes where it does already.

        Raises:
            NotFound: no such adapter or version.
            StaleRevision: the present release is not the expected one.
        """
        with self._write(actor) as write:
            row = versions.find_adapter(write.connection, tenant, adapter)
            return releases.set_stable(write, row, stable, expected_revision)

    def rollback_target(
        self, tenant: str, adapter: str, *, expected_revision: ExpectedRevision = None
    ) -> tuple[int, Version]:
        """The present revision, and the version that a rollback from it would go to.

        Raises:
            As `rollback`, which changes what this only looks up.
        """
        with self._database.read() as connection:
            row = versions.find_adapter(connection, tenant, adapter)
            before, target = releases.rollback_target(connection, row, expected_revision)
            return before.revision, versions.get_version(connection, row, target.stable)

    def rollback(
        self,
        tenant: str,
        adapter: str,
        *,
        expected_revision: ExpectedRevision = None,
        actor: str,
    ) -> Release:
        """Go back to the version that answered before; again, to the one before that.

        Raises:
            NotFound: no such adapter.
            StaleRevision: as `set_release`.
            Conflict: there is nothing to go back to.
        """
        with self._write(actor) as write:
            row = versions.find_adapter(write.connection, tenant, adapter)
            return releases.rollback(write, row, expected_revision)

    # Following

    @property
    def openings(self) -> int:
        """How many files were opened: one more where another came to the registry's path."""
        return self._database.openings

    def adopt(self, openings: int, mark: Mark) -> None:
        """Accept changes of the history of `mark`, which has been followed up to there.

        `openings` is what it was before that was read. Needed after a restore only.
        """
        self._database.adopt(openings, mark.history)

    def checkpoint(self) -> None:
        """Empty the write-ahead log, if nobody is in the way."""
        self._database.checkpoint()

    def head(self) -> Mark:
        """Where the newest change stands, number 0 before the first."""
        with self._database.read() as connection:
            return audit.head(connection)

    def changes_since(self, mark: Mark, limit: int) -> list[Change] | None:
        """At most `limit` changes after `mark`, oldest first; None where it is of another history.

        That is so when a backup took the database's place.
        """
        with self._database.read() as connection:
            return audit.changes_since(connection, mark, limit)

    def read_tenants(self, names: Collection[str] | None = None) -> Snapshot:
        """Keys and releases of the tenants `names`, or of all, at one moment."""
        with self._database.read() as connection:
            return snapshot.read(connection, names)

    def list_audit(
        self, tenant: str | None = None, *, limit: int | None = None, after: int | None = None
    ) -> list[AuditRow]:
        """The audit trail, newest first: of one tenant or of all, what follows the row `after`.

        NotFound for an unknown tenant.
        """
        with self._database.read() as connection:
            if tenant is not None:
                tenants.tenant_id(connection, tenant)
            return audit.list_audit(connection, tenant, limit, after)

    @contextmanager
    def _write(self, actor: str) -> Iterator[Write]:
        with self._database.write() as connection:
            # Asked under the write lock: times are in the order of the changes.
            write = Write(connection, self._clock().astimezone(UTC), actor)
            tenants.check_actor(write)
            yield write
