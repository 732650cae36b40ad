"""Tenants and keys: the queries and the rules."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import get_args

from sqlalchemy import ColumnElement, Connection, func, insert, select, tuple_, update

from adapters.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from adapters.names import check_name
from adapters.registry.audit import Write
from adapters.registry.keys import (
    SCOPES,
    Scope,
    check_tenant_scopes,
    is_key_id,
    new_key,
    secret_digest,
)
from adapters.registry.records import CacheMode, KeyInfo, LiveKey, Tenant
from adapters.registry.tables import keys, tenants

_MODES: tuple[CacheMode, ...] = get_args(CacheMode)
# Two, so that a key can be replaced with no moment in which none works; no third, so that old
# ones do not pile up.
MAX_LIVE_KEYS = 2


def create_tenant(write: Write, name: str) -> Tenant:
    """Add a tenant; Conflict when the name is taken."""
    check_name("tenant", name)
    if write.connection.scalar(select(tenants.c.id).where(tenants.c.name == name)) is not None:
        raise Conflict(f"there is a tenant {name} already")
    write.connection.execute(insert(tenants).values(name=name, created_at=write.at))
    write.log("tenant.create", name)
    return Tenant(name, write.at)


def list_tenants(connection: Connection, limit: int | None, after: str | None) -> list[Tenant]:
    """Tenants by name; those that follow the name `after`."""
    query = select(tenants.c.name, tenants.c.created_at).order_by(tenants.c.name).limit(limit)
    if after is not None:
        query = query.where(tenants.c.name > after)
    return [Tenant(*row) for row in connection.execute(query)]


def tenant_id(connection: Connection, name: str) -> int:
    """The row of a tenant; NotFound when there is none."""
    check_name("tenant", name)
    found = connection.scalar(select(tenants.c.id).where(tenants.c.name == name))
    if found is None:
        raise NotFound(f"there is no tenant {name}")
    return found


def get_feature_cache(connection: Connection, name: str) -> CacheMode:
    """The mode of a tenant's feature cache; NotFound without the tenant."""
    owner = tenant_id(connection, name)
    return read_mode(
        connection.scalars(select(tenants.c.feature_cache).where(tenants.c.id == owner)).one()
    )


def set_feature_cache(write: Write, name: str, mode: str) -> CacheMode:
    """Set the mode of a tenant's feature cache; nothing changes where it is set already.

    Raises:
        InvalidInput: there is no such mode.
        NotFound: there is no such tenant.
    """
    wanted = read_mode(mode)
    before = get_feature_cache(write.connection, name)
    if wanted != before:
        changed = update(tenants).where(tenants.c.name == name)
        write.connection.execute(changed.values(feature_cache=wanted))
        write.log("tenant.feature_cache", name, mode=wanted, previous=before)
    return wanted


def read_mode(text: str) -> CacheMode:
    """A text as the mode that it names. Raises InvalidInput."""
    for mode in _MODES:
        if text == mode:
            return mode
    raise InvalidInput(f"there is no feature cache mode {text[:40]!a}: use off, own or shared")


def create_key(
    write: Write, tenant: str, scopes: Collection[str], lifetime: timedelta | None
) -> tuple[KeyInfo, str]:
    """Add a key and return its text, which is known only now; Conflict at the limit."""
    checked = check_tenant_scopes(scopes)
    owner = tenant_id(write.connection, tenant)
    _check_room(write, tenant, keys.c.tenant_id == owner)
    return _insert_key(write, tenant, owner, checked, lifetime)


def rotate_key(
    write: Write, tenant: str, key_id: str, overlap: timedelta, lifetime: timedelta | None
) -> tuple[KeyInfo, str]:
    """Add a key like a live one, which ends after the overlap, or at once where there is none.

    Raises:
        NotFound: it is not the tenant's, or has ended.
        Conflict: the tenant has another live key, and the old one would be a third.
    """
    owner = tenant_id(write.connection, tenant)
    old = (keys.c.id == key_id) & (keys.c.tenant_id == owner) & is_live(write.at)
    query = select(keys.c.scopes, keys.c.expires_at).where(old)
    found = write.connection.execute(query).one_or_none() if is_key_id(key_id) else None
    if found is None:
        raise NotFound(f"tenant {tenant} has no such live key")
    scopes, expires_at = found
    if overlap:
        _check_room(write, tenant, keys.c.tenant_id == owner)
        ends = write.at + overlap
        changed = {"expires_at": ends if expires_at is None else min(ends, expires_at)}
    else:
        changed = {"revoked_at": write.at}
    write.connection.execute(update(keys).where(old).values(**changed))
    write.log("key.rotate", tenant, key=key_id, overlap_s=int(overlap.total_seconds()))
    return _insert_key(write, tenant, owner, read_scopes(scopes), lifetime)


def is_live(now: datetime) -> ColumnElement[bool]:
    """Neither revoked nor expired."""
    return keys.c.revoked_at.is_(None) & (keys.c.expires_at.is_(None) | (keys.c.expires_at > now))


def _check_room(write: Write, tenant: str, owned: ColumnElement[bool]) -> None:
    live = select(func.count()).where(owned, is_live(write.at))
    if write.connection.scalars(live).one() >= MAX_LIVE_KEYS:
        raise Conflict(
            f"tenant {tenant} has {MAX_LIVE_KEYS} live keys already: revoke one of them first"
        )


def ensure_admin_key(write: Write) -> str | None:
    """Make an admin key and return its text; None when there is one already."""
    live = select(keys.c.id).where(keys.c.tenant_id.is_(None), keys.c.revoked_at.is_(None))
    if write.connection.scalar(live.limit(1)) is not None:
        return None
    return _insert_key(write, None, None, ("admin",), None)[1]


def list_keys(
    connection: Connection, tenant: str, limit: int | None, after: str | None
) -> list[KeyInfo]:
    """A tenant's keys, revoked ones too, oldest first; those that follow the key `after`.

    Raises:
        NotFound: there is no such tenant, or it has no key `after`.
    """
    owned = keys.c.tenant_id == tenant_id(connection, tenant)
    query = (
        select(keys.c.id, keys.c.scopes, keys.c.created_at, keys.c.revoked_at, keys.c.expires_at)
        .where(owned)
        .order_by(keys.c.created_at, keys.c.id)
        .limit(limit)
    )
    if after is not None:
        made = connection.scalar(select(keys.c.created_at).where(owned, keys.c.id == after))
        if made is None:
            raise NotFound(f"tenant {tenant} has no key {after[:40]!a} to go on after")
        query = query.where(tuple_(keys.c.created_at, keys.c.id) > tuple_(made, after))
    return [
        KeyInfo(key_id, tenant, read_scopes(scopes), created_at, revoked_at, expires_at)
        for key_id, scopes, created_at, revoked_at, expires_at in connection.execute(query)
    ]


def revoke_key(write: Write, tenant: str, key_id: str) -> None:
    """End a key; nothing changes when it was revoked before. NotFound when it is not theirs."""
    owned = (keys.c.id == key_id) & (keys.c.tenant_id == tenant_id(write.connection, tenant))
    query = select(keys.c.revoked_at).where(owned)
    found = write.connection.execute(query).one_or_none() if is_key_id(key_id) else None
    if found is None:
        raise NotFound(f"tenant {tenant} has no such key")
    if found[0] is None:
        write.connection.execute(update(keys).where(owned).values(revoked_at=write.at))
        write.log("key.revoke", tenant, key=key_id)


def live_keys(
    connection: Connection, where: ColumnElement[bool]
) -> list[tuple[str | None, LiveKey]]:
    """The keys that are not revoked, each with its tenant's name."""
    query = (
        select(tenants.c.name, keys.c.id, keys.c.secret_sha256, keys.c.scopes, keys.c.expires_at)
        .select_from(keys.outerjoin(tenants, tenants.c.id == keys.c.tenant_id))
        .where(keys.c.revoked_at.is_(None), where)
        .order_by(keys.c.created_at, keys.c.id)
    )
    return [
        (name, LiveKey(key_id, digest, read_scopes(scopes), expires_at))
        for name, key_id, digest, scopes, expires_at in connection.execute(query)
    ]


def check_actor(write: Write) -> None:
    """Refuse a key that was revoked since it was checked, or that a restore took away.

    Other actors than keys are named by what is no key's id.
    """
    if not is_key_id(write.actor):
        return
    query = select(keys.c.id).where(keys.c.id == write.actor, keys.c.revoked_at.is_(None))
    if write.connection.scalar(query) is None:
        raise Unauthenticated("the key is not valid any more: it was revoked, or is unknown")


def read_scopes(stored: str) -> tuple[Scope, ...]:
    """The scopes of a stored row."""
    present = stored.split(",")
    return tuple(scope for scope in SCOPES if scope in present)


def _insert_key(
    write: Write,
    tenant: str | None,
    owner: int | None,
    scopes: tuple[Scope, ...],
    lifetime: timedelta | None,
) -> tuple[KeyInfo, str]:
    key = new_key()
    expires_at = None if lifetime is None else write.at + lifetime
    write.connection.execute(
        insert(keys).values(
            id=key.id,
            tenant_id=owner,
            secret_sha256=secret_digest(key.secret),
            scopes=",".join(scopes),
            created_at=write.at,
            expires_at=expires_at,
        )
    )
    ends = {} if expires_at is None else {"expires_at": expires_at.isoformat()}
    write.log("key.create", tenant, key=key.id, scopes=list(scopes), **ends)
    return KeyInfo(key.id, tenant, scopes, write.at, None, expires_at), key.text
