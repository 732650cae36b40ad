"""What is deleted, and what goes with it, each in one transaction.

The pages that bytes took are free again at once, for whatever is stored next. They are not written
over: that would hold the write lock for seconds. A backup holds nothing of them.
"""

from sqlalchemy import ColumnElement, delete, func, select, update

from adapters.errors import Conflict
from adapters.registry import releases as release_rows
from adapters.registry.audit import Write
from adapters.registry.tables import adapters, keys, parts, quotas, releases, tenants, versions
from adapters.registry.tenants import tenant_id
from adapters.registry.versions import AdapterRow, get_version


def delete_version(write: Write, adapter: AdapterRow, number: int) -> list[str]:
    """Delete a version that does not answer; rollbacks pass it by from now on.

    Returns the digests that no version has any more.

    Raises:
        NotFound: there is no such version.
        Conflict: it is released.
    """
    version = get_version(write.connection, adapter, number)
    current = release_rows.current(write.connection, adapter)
    if current is not None and current.stable == number:
        raise Conflict(
            f"version {number} of {adapter} is released: release another one first, or delete the "
            "adapter"
        )
    _pass_by(write, adapter, number)
    gone = _delete_versions(
        write, (versions.c.adapter_id == adapter.id) & (versions.c.number == number)
    )
    write.log(
        "version.delete",
        adapter.tenant,
        adapter.name,
        version=number,
        digest=version.digest,
        size=version.size,
    )
    return gone


def delete_adapter(write: Write, adapter: AdapterRow) -> list[str]:
    """Delete an adapter with all of its versions and its release; digests as `delete_version`."""
    of_adapter = versions.c.adapter_id == adapter.id
    count, size = _measure(write, of_adapter)
    write.connection.execute(delete(releases).where(releases.c.adapter_id == adapter.id))
    gone = _delete_versions(write, of_adapter)
    write.connection.execute(delete(adapters).where(adapters.c.id == adapter.id))
    write.log("adapter.delete", adapter.tenant, adapter.name, versions=count, size=size)
    return gone


def delete_tenant(write: Write, name: str) -> list[str]:
    """Delete a tenant with its keys, quota and adapters; digests as `delete_version`.

    Raises:
        NotFound: there is no such tenant.
    """
    owner = tenant_id(write.connection, name)
    owned = select(adapters.c.id).where(adapters.c.tenant_id == owner)
    of_tenant = versions.c.adapter_id.in_(owned)
    count, size = _measure(write, of_tenant)
    n_adapters = write.connection.scalar(
        select(func.count()).select_from(adapters).where(adapters.c.tenant_id == owner)
    )
    write.connection.execute(delete(releases).where(releases.c.adapter_id.in_(owned)))
    gone = _delete_versions(write, of_tenant)
    for table in (adapters, keys, quotas):
        write.connection.execute(delete(table).where(table.c.tenant_id == owner))
    write.connection.execute(delete(tenants).where(tenants.c.id == owner))
    write.log("tenant.delete", name, adapters=n_adapters, versions=count, size=size)
    return gone


def _pass_by(write: Write, adapter: AdapterRow, number: int) -> None:
    """Take the releases of a version out of the chain that rollbacks walk back."""
    of_adapter = releases.c.adapter_id == adapter.id
    query = select(releases.c.revision, releases.c.stable, releases.c.parent).where(of_adapter)
    rows = {
        revision: (stable, parent) for revision, stable, parent in write.connection.execute(query)
    }
    for revision, (stable, parent) in rows.items():
        before = parent
        # What it would go back to must be there, and be another version than its own.
        while before is not None and rows[before][0] in (number, stable):
            before = rows[before][1]
        if before != parent:
            changed = update(releases).where(of_adapter, releases.c.revision == revision)
            write.connection.execute(changed.values(parent=before))
    write.connection.execute(delete(releases).where(of_adapter, releases.c.stable == number))


def _measure(write: Write, which: ColumnElement[bool]) -> tuple[int, int]:
    """How many versions there are, and their bytes."""
    query = select(func.count(), func.coalesce(func.sum(versions.c.size), 0)).where(which)
    count, size = write.connection.execute(query).one()
    return count, size


def _delete_versions(write: Write, which: ColumnElement[bool]) -> list[str]:
    """Delete versions with their bytes; returns the digests that no other version has."""
    digests = set(write.connection.scalars(select(versions.c.digest).where(which)))
    in_parts = select(versions.c.upload).where(which, versions.c.upload.is_not(None))
    write.connection.execute(delete(parts).where(parts.c.upload.in_(in_parts)))
    write.connection.execute(delete(versions).where(which))
    return sorted(
        digest
        for digest in digests
        if write.connection.scalar(
            select(versions.c.id).where(versions.c.digest == digest).limit(1)
        )
        is None
    )
