"""Long files on their way into the registry: one at a time, in parts, and small changes between."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from adapters.errors import RegistryUnavailable
from adapters.registry import Registry
from service.changes import Changes

# Written and synced in tens of milliseconds; a file of 62 MB in one piece took seconds, in which a
# key could not be revoked.
PART_BYTES: Final = 2 * 2**20


class Storing:
    """Stores the parts of long files ahead of the change that makes a version of them."""

    def __init__(self, registry: Registry, changes: Changes) -> None:
        self._registry = registry
        self._changes = changes
        # One file after the other: a small change waits for one part of one of them.
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def stored(self, content: bytes) -> AsyncIterator[str | None]:
        """The name of an upload that has a long file's parts, dropped unless a version takes them.

        None for a file that goes into its version in one piece.
        """
        if len(content) <= PART_BYTES:
            yield None
            return
        async with self._turn:
            name = secrets.token_hex(16)
            try:
                await self._changes.step(partial(self._registry.begin_upload, name))
                for number, start in enumerate(range(0, len(content), PART_BYTES)):
                    part = content[start : start + PART_BYTES]
                    await self._changes.step(partial(self._registry.add_part, name, number, part))
                yield name
            except BaseException:
                with suppress(RegistryUnavailable):  # then a later upload sweeps it away
                    await self._changes.step(partial(self._registry.drop_upload, name))
                raise
