"""Releases: an append-only row for every change of which version answers.

The row with the highest revision is in force. A row that sets a version has the row before it as
its parent. A rollback repeats the version of the parent and takes over the parent's parent: so
rollbacks in a row walk back one step each, and never between two versions for ever.
"""

from datetime import datetime

from sqlalchemy import Connection, Select, insert, select

from adapters.errors import Conflict, StaleRevision
from adapters.registry.audit import Action, Write
from adapters.registry.records import ExpectedRevision, Release
from adapters.registry.tables import releases
from adapters.registry.versions import AdapterRow, get_version

_MOST_SHOWN = 5  # revisions in a message


def current(connection: Connection, adapter: AdapterRow) -> Release | None:
    """The release in force, None before the first."""
    query = _select().where(releases.c.adapter_id == adapter.id)
    newest = query.order_by(releases.c.revision.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return Release(*row) if row is not None else None


def set_stable(
    write: Write, adapter: AdapterRow, stable: int, expected: ExpectedRevision
) -> Release:
    """Let version `stable` answer; the present release where it does already.

    Raises:
        NotFound: there is no such version.
        StaleRevision: the release is not the expected one.
    """
    get_version(write.connection, adapter, stable)
    before = current(write.connection, adapter)
    _check_expected(adapter, before, expected)
    if before is not None and before.stable == stable:
        return before
    parent = before.revision if before is not None else None
    return _append(write, "release.set", adapter, before, stable, parent)


def rollback(write: Write, adapter: AdapterRow, expected: ExpectedRevision) -> Release:
    """Go back to the version before the present one. Raises as `rollback_target`."""
    before, target = rollback_target(write.connection, adapter, expected)
    return _append(write, "release.rollback", adapter, before, target.stable, target.parent)


def rollback_target(
    connection: Connection, adapter: AdapterRow, expected: ExpectedRevision
) -> tuple[Release, Release]:
    """The present release, and the earlier one that a rollback repeats.

    Raises:
        StaleRevision: as `set_stable`.
        Conflict: there is nothing to go back to.
    """
    before = current(connection, adapter)
    _check_expected(adapter, before, expected)
    if before is None or before.parent is None:
        raise Conflict(f"{adapter} has no earlier release to go back to")
    query = _select().where(
        releases.c.adapter_id == adapter.id, releases.c.revision == before.parent
    )
    return before, Release(*connection.execute(query).one())


def _select() -> Select[int, int, int | None, datetime]:
    return select(releases.c.revision, releases.c.stable, releases.c.parent, releases.c.created_at)


def _check_expected(
    adapter: AdapterRow, before: Release | None, expected: ExpectedRevision
) -> None:
    revision = before.revision if before is not None else 0
    if expected == "any" and before is None:
        raise StaleRevision(f"{adapter} has no release yet")
    if expected is None or expected == "any":
        return
    accepted = frozenset([expected]) if isinstance(expected, int) else expected
    if revision not in accepted:
        shown = " or ".join(str(each)[:20] for each in sorted(accepted)[:_MOST_SHOWN])
        raise StaleRevision(
            f"the release of {adapter} is at revision {revision}, not {shown}: "
            "read it again and decide anew"
        )


def _append(
    write: Write,
    action: Action,
    adapter: AdapterRow,
    before: Release | None,
    stable: int,
    parent: int | None,
) -> Release:
    release = Release(before.revision + 1 if before is not None else 1, stable, parent, write.at)
    write.connection.execute(
        insert(releases).values(
            adapter_id=adapter.id,
            revision=release.revision,
            stable=release.stable,
            parent=release.parent,
            created_at=release.created_at,
        )
    )
    write.log(
        action,
        adapter.tenant,
        adapter.name,
        revision=release.revision,
        stable=stable,
        previous=before.stable if before is not None else None,
    )
    return release
