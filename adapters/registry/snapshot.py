"""What a server follows: the state of many tenants at one moment, with no query a tenant."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Final

from sqlalchemy import ColumnElement, Connection, select, true

from adapters.registry import audit
from adapters.registry.quotas import read_quotas
from adapters.registry.records import ActiveRelease, LiveKey, Quota, Snapshot, TenantState
from adapters.registry.tables import adapters, keys, releases, tenants, versions
from adapters.registry.tenants import live_keys, read_mode
from adapters.registry.versions import is_current_release

# SQLite allows 999 bound parameters in its older builds.
_NAMES_A_QUERY: Final = 500


def read(connection: Connection, names: Collection[str] | None) -> Snapshot:
    """The state of the tenants `names`, or of all; unknown ones and revoked keys are left out.

    Expired keys are not: the clock that says so may be wrong, and set right later.

    `connection` must be in a transaction that sees one moment.
    """
    states: dict[str, TenantState] = {}
    for where in _parts(names):
        states.update(_read_part(connection, where))
    admin_keys = tuple(key for _, key in live_keys(connection, keys.c.tenant_id.is_(None)))
    return Snapshot(audit.head(connection), states, admin_keys)


def _parts(names: Collection[str] | None) -> Iterator[ColumnElement[bool]]:
    if names is None:
        yield true()
        return
    ordered = sorted(set(names))
    for start in range(0, len(ordered), _NAMES_A_QUERY):
        yield tenants.c.name.in_(ordered[start : start + _NAMES_A_QUERY])


def _read_part(connection: Connection, where: ColumnElement[bool]) -> dict[str, TenantState]:
    found: defaultdict[str | None, list[LiveKey]] = defaultdict(list)
    for name, key in live_keys(connection, where & keys.c.tenant_id.is_not(None)):
        found[name].append(key)
    active = _active_releases(connection, where)
    known = connection.execute(
        select(tenants.c.name, tenants.c.id, tenants.c.created_at, tenants.c.feature_cache).where(
            where
        )
    )
    quotas = read_quotas(connection, where)
    return {
        name: TenantState(
            tuple(found[name]),
            active[name],
            read_mode(mode),
            quotas.get(name, Quota()),
            (number, created_at),
        )
        for name, number, created_at, mode in known
    }


def _active_releases(
    connection: Connection, where: ColumnElement[bool]
) -> defaultdict[str, dict[str, ActiveRelease]]:
    query = (
        select(
            tenants.c.name,
            adapters.c.name,
            releases.c.revision,
            versions.c.number,
            versions.c.digest,
            versions.c.backbone,
        )
        .select_from(tenants)
        .join(adapters, adapters.c.tenant_id == tenants.c.id)
        .join(releases, is_current_release())
        .join(
            versions,
            (versions.c.adapter_id == adapters.c.id) & (versions.c.number == releases.c.stable),
        )
        .where(where)
    )
    active: defaultdict[str, dict[str, ActiveRelease]] = defaultdict(dict)
    for tenant, adapter, revision, number, digest, backbone in connection.execute(query):
        active[tenant][adapter] = ActiveRelease(adapter, revision, number, digest, backbone)
    return active
