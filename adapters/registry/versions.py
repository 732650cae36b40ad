"""Adapters and their versions: publishing, listing, reading the bytes."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, update

from adapters.errors import InvalidInput, NotFound, RegistryUnavailable
from adapters.names import check_name
from adapters.registry import tenants as tenant_rows
from adapters.registry import uploads
from adapters.registry.audit import Write
from adapters.registry.records import AdapterInfo, NewVersion, Release, Version, VersionRow
from adapters.registry.tables import adapters, releases, tenants, versions

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_NUMBER: Final = 2**31 - 1
# Of a listing: neither the bytes nor the manifest.
_SHORT: Final = (
    versions.c.number,
    versions.c.digest,
    versions.c.backbone,
    versions.c.size,
    versions.c.created_at,
)


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """An adapter that was found: its row and its names."""

    id: int
    tenant: str
    name: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.name}"


def check_new(new: NewVersion) -> None:
    """Refuse a version whose digests are malformed or not those of its bytes.

    Of an upload in parts its owner has computed it; whoever reads a version does so again.

    Raises:
        InvalidInput: what is wrong.
    """
    if not _DIGEST.fullmatch(new.backbone):
        raise InvalidInput("a backbone's digest is 64 hex digits in lower case")
    if new.upload is None and hashlib.sha256(new.content).hexdigest() != new.digest:
        raise InvalidInput("the digest is not the sha256 of the adapter file's bytes")


def find_adapter(connection: Connection, tenant: str, name: str) -> AdapterRow:
    """The row of an adapter; NotFound alike when the tenant or the adapter is missing."""
    check_name("tenant", tenant)
    check_name("adapter", name)
    query = select(adapters.c.id).join(tenants, tenants.c.id == adapters.c.tenant_id)
    found = connection.scalar(query.where(tenants.c.name == tenant, adapters.c.name == name))
    if found is None:
        raise NotFound(f"there is no adapter {tenant}/{name}")
    return AdapterRow(found, tenant, name)


def ensure_adapter(write: Write, tenant: str, name: str) -> AdapterRow:
    """The row of an adapter, made where missing; NotFound when the tenant is."""
    check_name("adapter", name)
    owner = tenant_rows.tenant_id(write.connection, tenant)
    owned = (adapters.c.tenant_id == owner) & (adapters.c.name == name)
    found = write.connection.scalar(select(adapters.c.id).where(owned))
    if found is None:
        added = insert(adapters).values(tenant_id=owner, name=name).returning(adapters.c.id)
        found = write.connection.scalars(added).one()
    return AdapterRow(found, tenant, name)


def add(write: Write, adapter: AdapterRow, new: NewVersion) -> tuple[Version, bool]:
    """The version with these bytes, and whether it is new: the next number, or the known one."""
    of_adapter = versions.c.adapter_id == adapter.id
    known = _first(write.connection, of_adapter & (versions.c.digest == new.digest))
    if known is not None:
        if new.upload is not None:
            uploads.drop(write, new.upload)
        return known, False
    numbered = (
        update(adapters)
        .where(adapters.c.id == adapter.id)
        .values(last_version=adapters.c.last_version + 1)
        .returning(adapters.c.last_version)
    )
    number = write.connection.scalars(numbered).one()
    version = Version(number, new.digest, new.backbone, len(new.content), write.at, new.manifest)
    _insert(write, adapter, version, new)
    return version, True


def list_versions(
    connection: Connection, adapter: AdapterRow, limit: int | None, after: int | None
) -> list[VersionRow]:
    """Versions of an adapter, oldest first; those that follow the number `after`."""
    query = select(*_SHORT).where(versions.c.adapter_id == adapter.id)
    if after is not None:
        query = query.where(versions.c.number > after)
    found = connection.execute(query.order_by(versions.c.number).limit(limit))
    return [VersionRow(*row) for row in found]


def get_version(connection: Connection, adapter: AdapterRow, number: int) -> Version:
    """One version; NotFound when there is no such number."""
    wanted = and_(versions.c.adapter_id == adapter.id, versions.c.number == number)
    # A number beyond the column's range would be an error of the driver.
    found = _first(connection, wanted) if 0 < number <= _MAX_NUMBER else None
    if found is None:
        raise NotFound(f"there is no version {str(number)[:20]} of {adapter}")
    return found


def has_version(connection: Connection, tenant: str, adapter: str, digest: str) -> bool:
    """Whether these bytes are a version of an adapter already; False without the adapter."""
    query = (
        select(versions.c.id)
        .join(adapters, adapters.c.id == versions.c.adapter_id)
        .join(tenants, tenants.c.id == adapters.c.tenant_id)
        .where(tenants.c.name == tenant, adapters.c.name == adapter, versions.c.digest == digest)
    )
    return connection.scalar(query) is not None


def read_content(connection: Connection, digest: str) -> bytes:
    """The bytes with this digest, whoever published them; verified.

    Raises:
        NotFound: nobody did.
        RegistryUnavailable: the stored bytes are damaged.
    """
    query = select(versions.c.content, versions.c.upload).where(versions.c.digest == digest)
    found = connection.execute(query.limit(1)).first() if _DIGEST.fullmatch(digest) else None
    if found is None:
        raise NotFound("there is no version with this digest")
    content, upload = found
    if upload is not None:
        content = uploads.read(connection, upload)
    if hashlib.sha256(content).hexdigest() != digest:
        raise RegistryUnavailable(f"the registry's copy of version {digest} is damaged")
    return content


def list_adapters(
    connection: Connection, tenant: str, limit: int | None, after: str | None
) -> list[AdapterInfo]:
    """A tenant's adapters by name; those that follow the name `after`."""
    owner = tenant_rows.tenant_id(connection, tenant)
    latest = select(func.max(versions.c.number)).where(versions.c.adapter_id == adapters.c.id)
    query = (
        select(
            adapters.c.name,
            latest.scalar_subquery(),
            releases.c.revision,
            releases.c.stable,
            releases.c.parent,
            releases.c.created_at,
        )
        .select_from(adapters.outerjoin(releases, is_current_release()))
        .where(adapters.c.tenant_id == owner)
        .order_by(adapters.c.name)
        .limit(limit)
    )
    if after is not None:
        query = query.where(adapters.c.name > after)
    return [_read_info(*row) for row in connection.execute(query)]


def is_current_release() -> ColumnElement[bool]:
    """Joins an adapter with the release in force: that of the highest revision."""
    others = releases.alias("others")
    newest = select(func.max(others.c.revision)).where(others.c.adapter_id == adapters.c.id)
    return and_(
        releases.c.adapter_id == adapters.c.id,
        releases.c.revision == newest.correlate(adapters).scalar_subquery(),
    )


def _read_info(
    name: str,
    latest: int | None,
    revision: int | None,
    stable: int,
    parent: int | None,
    created_at: datetime,
) -> AdapterInfo:
    # The outer join leaves the release's columns empty where there is none.
    release = Release(revision, stable, parent, created_at) if revision is not None else None
    return AdapterInfo(name, latest, release)


def _first(connection: Connection, where: ColumnElement[bool]) -> Version | None:
    row = connection.execute(select(*_SHORT, versions.c.manifest).where(where)).one_or_none()
    return Version(*row) if row is not None else None


def _insert(write: Write, adapter: AdapterRow, version: Version, new: NewVersion) -> None:
    if new.upload is not None:
        uploads.finish(write, new.upload, version.size)
    write.connection.execute(
        insert(versions).values(
            adapter_id=adapter.id,
            number=version.number,
            digest=version.digest,
            backbone=version.backbone,
            size=version.size,
            manifest=version.manifest,
            created_at=version.created_at,
            content=new.content if new.upload is None else b"",
            upload=new.upload,
        )
    )
    write.log(
        "version.publish",
        adapter.tenant,
        adapter.name,
        version=version.number,
        digest=version.digest,
        size=version.size,
    )
