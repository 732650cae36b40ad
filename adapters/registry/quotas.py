"""What a tenant may have at most: set by operators, held to in the transaction of each publish."""

from dataclasses import asdict, replace
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from adapters.errors import InvalidInput, QuotaExceeded
from adapters.registry.audit import Write
from adapters.registry.records import Holdings, Quota, UploadRoom
from adapters.registry.tables import adapters, quotas, tenants, versions
from adapters.registry.tenants import tenant_id

_MOST: Final = 2**62


def get_quota(connection: Connection, tenant: str) -> Quota:
    """A tenant's quota, without limits where none was set; NotFound without the tenant."""
    owner = tenant_id(connection, tenant)
    return read_quotas(connection, tenants.c.id == owner).get(tenant, Quota())


def set_quota(write: Write, tenant: str, quota: Quota) -> Quota:
    """Set all limits; nothing changes where they are so already.

    What is over a new limit stays, and nothing is added to it.

    Raises:
        InvalidInput: a limit is no whole number from 0 on.
        NotFound: no such tenant.
    """
    wanted = asdict(quota)
    for name, limit in wanted.items():
        if limit is not None and not 0 <= limit <= _MOST:
            raise InvalidInput(f"the limit {name} must be a whole number from 0 on, or none")
    before = get_quota(write.connection, tenant)
    if quota == before:
        return quota
    owner = tenant_id(write.connection, tenant)
    write.connection.execute(delete(quotas).where(quotas.c.tenant_id == owner))
    write.connection.execute(insert(quotas).values(tenant_id=owner, **wanted))
    write.log("tenant.quota", tenant, **wanted)
    return quota


def read_quotas(connection: Connection, where: ColumnElement[bool]) -> dict[str, Quota]:
    """The quotas of tenants that have one, by name."""
    query = (
        select(
            tenants.c.name,
            quotas.c.adapters,
            quotas.c.versions,
            quotas.c.bytes,
            quotas.c.requests_per_minute,
            quotas.c.tokens_per_minute,
        )
        .select_from(quotas)
        .join(tenants, tenants.c.id == quotas.c.tenant_id)
        .where(where)
    )
    return {name: Quota(*limits) for name, *limits in connection.execute(query)}


def holdings(connection: Connection, tenant: str) -> Holdings:
    """What a tenant has; NotFound without the tenant."""
    owner = tenant_id(connection, tenant)
    owned = adapters.c.tenant_id == owner
    n_adapters = connection.scalars(select(func.count()).where(owned)).one()
    query = (
        select(func.count(), func.coalesce(func.sum(versions.c.size), 0))
        .select_from(versions)
        .join(adapters, adapters.c.id == versions.c.adapter_id)
        .where(owned)
    )
    n_versions, size = connection.execute(query).one()
    return Holdings(n_adapters, n_versions, size)


def check_holdings(write: Write, tenant: str) -> None:
    """Raise QuotaExceeded where what was just added is more than the tenant may have."""
    quota = get_quota(write.connection, tenant)
    if quota.adapters is quota.versions is quota.bytes is None:
        return
    refusal = _refusal(tenant, quota, holdings(write.connection, tenant))
    if refusal:
        raise QuotaExceeded(refusal)


def upload_room(connection: Connection, tenant: str, adapter: str, announced: int) -> UploadRoom:
    """Return how much of an upload may be read; `announced` 0: its length is not known.

    What `check_holdings` would refuse is refused before its bytes are read. Bytes that are there
    already add nothing: a file as long as a version of the adapter may be one.

    Raises:
        NotFound: no such tenant.
        QuotaExceeded: not even one byte more, or not as many as are announced.
    """
    quota = get_quota(connection, tenant)
    if quota.adapters is quota.versions is quota.bytes is None:
        return UploadRoom()
    of_adapter = (tenants.c.name == tenant) & (adapters.c.name == adapter)
    query = select(versions.c.size).select_from(tenants.join(adapters).join(versions))
    known = set(connection.scalars(query.where(of_adapter)))
    has = holdings(connection, tenant)
    size = announced or 1
    with_it = Holdings(has.adapters + (not known), has.versions + 1, has.bytes + size)
    refusal = _refusal(tenant, quota, with_it)
    if refusal is None:
        left = None if quota.bytes is None else quota.bytes - has.bytes
        too_many = replace(with_it, bytes=(quota.bytes or 0) + 1)
        return UploadRoom(left, _refusal(tenant, quota, too_many) or "")
    if not known or (announced and announced not in known):
        raise QuotaExceeded(refusal)
    return UploadRoom(max(known), refusal)


def _refusal(tenant: str, quota: Quota, has: Holdings) -> str | None:
    """Why a tenant may not have as much; None: it may."""
    for name, limit, count in (
        ("adapters", quota.adapters, has.adapters),
        ("versions", quota.versions, has.versions),
        ("bytes", quota.bytes, has.bytes),
    ):
        if limit is not None and count > limit:
            return (
                f"tenant {tenant} would have {count} {name}, and may have {limit}; an operator "
                "can raise the quota"
            )
    return None
