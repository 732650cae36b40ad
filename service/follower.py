"""Keeps the directory at the registry's newest change, this server's own changes and others'."""

import asyncio
import contextlib
import dataclasses
import logging

from adapters.errors import HeadstockError, RegistryUnavailable
from adapters.registry import ActiveRelease, Registry, TenantState
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
            if await asyncio.to_thread(self._registry.head) == self._directory.seq:
                return
            changes = await asyncio.to_thread(
                self._registry.changes_since, self._directory.seq, _MOST_CHANGES
            )
            names = {change.tenant for change in changes if change.tenant is not None}
            # No change, and yet another head: the database is not the one that it was.
            everything = len(changes) in (0, _MOST_CHANGES) or any(
                change.tenant is None for change in changes
            )
            snapshot = await asyncio.to_thread(
                self._registry.read_tenants, None if everything else names
            )
            unread: list[RegistryUnavailable] = []
            tenants = {
                name: await self._prepare(name, state, unread)
                for name, state in snapshot.tenants.items()
            }
            before = {
                release.digest
                for name in tenants
                for release in self._directory.releases(name).values()
            }
            # The snapshot is read after the changes and may be newer: what changed in between for
            # other tenants than its own is still to be read.
            reached = snapshot.seq if everything else changes[-1].seq
            seq = self._directory.seq if unread else reached
            self._directory.update(dataclasses.replace(snapshot, seq=seq, tenants=tenants))
            for digest in before:
                if not self._directory.is_released(digest):
                    self._residents.drop(digest)
            if unread:
                raise unread[0]

    async def _prepare(
        self, tenant: str, state: TenantState, unread: list[RegistryUnavailable]
    ) -> TenantState:
        """New before old: load what replaces a resident version before anybody is sent to it.

        A version that cannot be loaded leaves the old one in place, and no other tenant's change
        (a revoked key, say) waits for it.
        """
        kept: dict[str, ActiveRelease] = {}
        for adapter, old in self._directory.releases(tenant).items():
            new = state.releases.get(adapter)
            if new is None or new.digest == old.digest or old.digest not in self._residents:
                continue
            try:
                await self._residents.get(new.digest)
            except RegistryUnavailable as error:
                unread.append(error)
                kept[adapter] = old
            except HeadstockError as error:
                logger.error(
                    "release %s/%s stays at version %d: %s", tenant, adapter, old.number, error
                )
                kept[adapter] = old
        return dataclasses.replace(state, releases={**state.releases, **kept}) if kept else state

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.catch_up()
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
