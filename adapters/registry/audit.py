"""The audit trail, which is also the change feed: one row for every change, in its transaction.

Sequence numbers are in the order of commits because SQLite has one writer at a time. A database
with several writers must take one lock for all writes, or a follower can miss a row.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, insert, select

from adapters.registry.records import AuditRow, Change, Mark
from adapters.registry.tables import audit

Action = Literal[
    "tenant.create",
    "tenant.feature_cache",
    "tenant.quota",
    "key.create",
    "key.rotate",
    "key.revoke",
    "version.publish",
    "release.set",
    "release.rollback",
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
    row = connection.execute(query).one_or_none()
    return Mark(*row) if row is not None else Mark(0, None)


def changes_since(connection: Connection, mark: Mark, limit: int) -> list[Change] | None:
    """The changes after `mark`, oldest first; None where it is no part of this history."""
    at = connection.scalar(select(audit.c.at).where(audit.c.seq == mark.seq))
    if at != mark.at:
        return None
    query = select(audit.c.seq, audit.c.at, audit.c.tenant).where(audit.c.seq > mark.seq)
    rows = connection.execute(query.order_by(audit.c.seq).limit(limit))
    return [Change(Mark(seq, at), tenant) for seq, at, tenant in rows]


def list_audit(
    connection: Connection, tenant: str | None, limit: int, before: int | None
) -> list[AuditRow]:
    """The newest rows first, of one tenant or of all, older than the row `before`."""
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
        query = query.where(audit.c.tenant == tenant)
    if before is not None:
        query = query.where(audit.c.seq < before)
    return [
        AuditRow(seq, at, actor, action, owner, adapter, json.loads(detail))
        for seq, at, actor, action, owner, adapter, detail in connection.execute(query)
    ]
