"""Changes of the registry: one after the other, and live in this server before the answer."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from adapters.adapter import Adapter
from adapters.errors import RegistryUnavailable
from adapters.registry import BUSY_TIMEOUT_S
from service.engine import ResidentAdapters
from service.follower import Follower

_TURN_S = BUSY_TIMEOUT_S  # the turn and then the file: together less than a request has

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Changes:
    """Commits one change at a time, as the registry does, in a thread of its own.

    So nothing else waits with those who wait for a turn; and a change that was refused for want of
    time has not begun, and never will.
    """

    def __init__(self, follower: Follower, residents: ResidentAdapters) -> None:
        self._follower = follower
        self._residents = residents
        self._turn = asyncio.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="registry-writer")

    async def stop(self) -> None:
        """Stop when the change under way is committed."""
        await asyncio.to_thread(self._writer.shutdown)

    async def make(self, change: Callable[[], T], ready: Adapter | None = None) -> T:
        """Commit a change, then make it live in this server.

        `ready` is the version that the change releases, where it is verified already.
        """
        await self._take_turn()  # who leaves while waiting here has changed nothing
        # Shielded: a client that leaves does not leave a committed change unseen.
        return await asyncio.shield(self._commit(change, ready))

    async def step(self, change: Callable[[], None]) -> None:
        """Commit a change of which nothing is to be seen yet."""
        await self._take_turn()
        await asyncio.shield(self._write(change))

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(_TURN_S):
                await self._turn.acquire()
        except TimeoutError:
            raise RegistryUnavailable("the registry has too much to do; try again") from None

    async def _commit(self, change: Callable[[], T], ready: Adapter | None) -> T:
        result = await self._write(change)
        if ready is not None:
            self._residents.put(ready)
        try:
            await self._follower.catch_up()
        except Exception as error:
            # The change stands; its answer (a new key, say) is not given up for a late look.
            logger.warning("a change was committed and is followed later: %r", error)
        return result

    async def _write(self, change: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, change)
        finally:
            self._turn.release()
