"""The audit trail, which is also the change feed: one row for every change, in its transaction.

Sequence numbers are in the order of commits because SQLite has one writer at a time. A database
with several writers must take one lock for all writes, or a follower can miss a row.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, func, insert, select

from adapters.registry.history import read_history
from adapters.registry.records import AuditRow, Change, Mark
from adapters.registry.tables import audit

Action = Literal[
    "tenant.create",
    "tenant.feature_cache",
    "tenant.quota",
    "tenant.delete",
    "key.create",
    "key.rotate",
    "key.revoke",
    "version.publish",
    "version.delete",
    "adapter.delete",
    "release.set",
    "release.rollback",
    "registry.restore",
]


@dataclass(frozen=True, slots=True)
class Write:
    """A write transaction: its connection, its one moment (UTC), and the key id that acts."""

    connection: Connection
    at: datetime
    actor: str

    def log(
        self,
        action: Action,
        tenant: str | None,
        adapter: str | None = None,
        **detail: str | int | list[str] | None,
    ) -> None:
        """Add the row of one change."""
        self.connection.execute(
            insert(audit).values(
                at=self.at,
                actor=self.actor,
                action=action,
                tenant=tenant,
                adapter=adapter,
                detail=json.dumps(detail, sort_keys=True),
            )
        )


def head(connection: Connection) -> Mark:
    """Where the newest change stands, number 0 before the first."""
    query = select(audit.c.seq, audit.c.at).order_by(audit.c.seq.desc()).limit(1)
    seq, at = connection.execute(query).one_or_none() or (0, None)
    return Mark(seq, at, read_history(connection))


def changes_since(connection: Connection, mark: Mark, limit: int) -> list[Change] | None:
    """The changes after `mark`, oldest first; None where it is no part of this history."""
    history = read_history(connection)
    if history != mark.history:
        return None
    at = connection.scalar(select(audit.c.at).where(audit.c.seq == mark.seq))
    if at != mark.at:
        return None
    query = select(audit.c.seq, audit.c.at, audit.c.tenant).where(audit.c.seq > mark.seq)
    rows = connection.execute(query.order_by(audit.c.seq).limit(limit))
    return [Change(Mark(seq, at, history), tenant) for seq, at, tenant in rows]


def list_audit(
    connection: Connection, tenant: str | None, limit: int | None, after: int | None
) -> list[AuditRow]:
    """The newest rows first, of one tenant or of all; those that follow the row `after`.

    A tenant has the rows since it was made, and none of one that had its name before.
    """
    query = (
        select(
            audit.c.seq,
            audit.c.at,
            audit.c.actor,
            audit.c.action,
            audit.c.tenant,
            audit.c.adapter,
            audit.c.detail,
        )
        .order_by(audit.c.seq.desc())
        .limit(limit)
    )
    if tenant is not None:
        of_tenant = audit.c.tenant == tenant
        made = select(func.max(audit.c.seq)).where(of_tenant, audit.c.action == "tenant.create")
        since = connection.scalar(made) or 0
        query = query.where(of_tenant, audit.c.seq >= since)
    if after is not None:
        query = query.where(audit.c.seq < after)
    return [
        AuditRow(seq, at, actor, action, owner, adapter, json.loads(detail))
        for seq, at, actor, action, owner, adapter, detail in connection.execute(query)
    ]
