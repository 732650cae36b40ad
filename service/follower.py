"""Keeps the directory at the registry's newest change, this server's own changes and others'."""

import asyncio
import contextlib
import dataclasses
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from adapters.errors import HeadstockError, RegistryUnavailable
from adapters.registry import ActiveRelease, Change, Registry, Snapshot, TenantState
from service.directory import Directory
from service.engine import ResidentAdapters
from service.metrics import Metrics

logger = logging.getLogger(__name__)
_MOST_CHANGES = 1000  # beyond this, everything is read anew


class Follower:
    """Polls the registry's sequence; `catch_up` makes a change of ours visible at once."""

    def __init__(
        self,
        registry: Registry,
        directory: Directory,
        residents: ResidentAdapters,
        metrics: Metrics,
        poll_s: float,
    ) -> None:
        self._registry = registry
        self._directory = directory
        self._residents = residents
        self._metrics = metrics
        self._poll_s = poll_s
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._trouble: str | None = None

    async def start(self) -> None:
        """Read everything once, then follow in the background. Raises RegistryUnavailable."""
        self._directory.update(await asyncio.to_thread(self._registry.read_tenants, None))
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def catch_up(self) -> None:
        """Apply every change committed before this call.

        Raises:
            RegistryUnavailable: nothing could be read, or not the bytes of some version; all the
                other changes are applied then, and the next call tries again.
        """
        async with self._lock:
            openings = self._registry.openings
            known = self._directory.mark
            if await asyncio.to_thread(self._registry.head) == known:
                self._registry.adopt(openings, known)
                return
            changes = await asyncio.to_thread(self._registry.changes_since, known, _MOST_CHANGES)
            names = _changed(changes)
            snapshot = await asyncio.to_thread(self._registry.read_tenants, names)
            # The snapshot is read after the changes and may be newer: what changed in between for
            # other tenants than its own is still to be read.
            reached = changes[-1].mark if changes and names is not None else snapshot.mark
            prepared, unread = await self._prepare(snapshot)
            mark = known if unread else reached
            applied = dataclasses.replace(snapshot, mark=mark, tenants=prepared)
            unnamed = (
                self._directory.replace(applied)
                if names is None
                else self._directory.update(applied, names)
            )
            for digest in unnamed:
                self._residents.drop(digest)
            if unread:
                raise unread[0]
            self._registry.adopt(openings, reached)

    async def _prepare(
        self, snapshot: Snapshot
    ) -> tuple[Mapping[str, TenantState], list[RegistryUnavailable]]:
        """New before old: load what replaces a resident version before anybody is sent to it.

        A version that cannot be loaded leaves the old one in place, and no other tenant's change
        (a revoked key, say) is given up for it. Returns also why versions could not be read. In a
        database that was restored nothing is old: what it does not have must not answer.
        """
        tenants = snapshot.tenants
        if snapshot.mark.history != self._directory.mark.history:
            return tenants, []
        replaced = [
            (tenant, old, state.releases[adapter])
            for tenant, state in tenants.items()
            for adapter, old in self._directory.releases(tenant).items()
            if adapter in state.releases and old.digest in self._residents
        ]
        # All at once: a slow one delays the others no longer than itself.
        failures = await asyncio.gather(*(self._load(*each) for each in replaced))
        kept: defaultdict[str, dict[str, ActiveRelease]] = defaultdict(dict)
        for (tenant, old, _), failure in zip(replaced, failures, strict=True):
            if failure is not None:
                kept[tenant][old.adapter] = old
        prepared = {
            name: dataclasses.replace(state, releases={**state.releases, **kept[name]})
            if name in kept
            else state
            for name, state in tenants.items()
        }
        return prepared, [each for each in failures if isinstance(each, RegistryUnavailable)]

    async def _load(
        self, tenant: str, old: ActiveRelease, new: ActiveRelease
    ) -> HeadstockError | None:
        """Make the version ready that takes the place of `old`; why it cannot be, if so."""
        if new.digest == old.digest:
            return None
        try:
            await self._residents.get(new.digest)
        except RegistryUnavailable as error:
            return error
        except HeadstockError as error:
            logger.error(
                "release %s/%s stays at version %d: %s", tenant, old.adapter, old.number, error
            )
            return error
        return None

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.catch_up()
                await asyncio.to_thread(self._registry.checkpoint)
            except RegistryUnavailable as error:
                self._report(str(error))
            except Exception:
                logger.exception("following the registry failed; trying again")
            else:
                self._report(None)

    def _report(self, trouble: str | None) -> None:
        """Show the state; log it when it changes, not at every look."""
        self._metrics.registry_unavailable.set(trouble is not None)
        if trouble is not None and self._trouble is None:
            logger.warning("cannot follow the registry, serving on what is known: %s", trouble)
        if trouble is None and self._trouble is not None:
            logger.warning("following the registry again")
        self._trouble = trouble


def _changed(changes: Sequence[Change] | None) -> set[str] | None:
    """The tenants to read again; None: all, also where the database is not the one that it was."""
    if not changes or len(changes) == _MOST_CHANGES:
        return None
    names = {change.tenant for change in changes if change.tenant is not None}
    return None if any(change.tenant is None for change in changes) else names
