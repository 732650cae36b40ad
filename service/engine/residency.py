"""Adapters in memory: loaded once however many ask, least recently used ones make room."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from adapters.adapter import Adapter, read_adapter
from service.metrics import Metrics

_LOADS: Final = 4  # at once


class ResidentAdapters:
    """Adapter versions by digest. Belongs to one event loop.

    Rows hold their adapter themselves, so dropping one here never takes it from a row under way.
    """

    def __init__(
        self, read_content: Callable[[str], bytes], limit_bytes: int, metrics: Metrics
    ) -> None:
        self._read_content = read_content
        self._limit_bytes = limit_bytes
        self._metrics = metrics
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Adapter]] = {}
        self._bytes = 0
        # Of their own: what follows the registry does not wait for files that are read.
        self._threads = ThreadPoolExecutor(_LOADS, "adapter-loads")

    def __contains__(self, digest: str) -> bool:
        return digest in self._adapters

    async def get(self, digest: str) -> Adapter:
        """The adapter, loaded and verified if need be.

        Raises:
            NotFound, InvalidAdapter, RegistryUnavailable: from the load, to all who wait for it.
        """
        adapter = self._adapters.get(digest)
        if adapter is not None:
            self._adapters.move_to_end(digest)
            return adapter
        task = self._loading.get(digest)
        if task is None:
            task = self._loading[digest] = asyncio.create_task(self._load(digest))
            task.add_done_callback(lambda ended: self._end(digest, ended))
        return await asyncio.shield(task)  # a caller that leaves does not end the others' load

    def put(self, adapter: Adapter) -> None:
        """Keep an adapter that was verified elsewhere; the least recently used make room."""
        if adapter.digest in self._adapters:
            return
        self._adapters[adapter.digest] = adapter
        self._bytes += adapter.size
        while self._bytes > self._limit_bytes and len(self._adapters) > 1:
            _, dropped = self._adapters.popitem(last=False)
            self._bytes -= dropped.size
        self._metrics.resident_adapters.set(len(self._adapters))
        self._metrics.resident_bytes.set(self._bytes)

    def drop(self, digest: str) -> None:
        """Forget an adapter that no release names any more."""
        # A load under way answers those who wait for it, and leaves nothing behind.
        self._loading.pop(digest, None)
        dropped = self._adapters.pop(digest, None)
        if dropped is not None:
            self._bytes -= dropped.size
            self._metrics.resident_adapters.set(len(self._adapters))
            self._metrics.resident_bytes.set(self._bytes)

    async def _load(self, digest: str) -> Adapter:
        outcome = "failed"
        try:
            loop = asyncio.get_running_loop()
            adapter = await loop.run_in_executor(self._threads, self._read, digest)
            if self._loading.get(digest) is asyncio.current_task():
                self.put(adapter)
            outcome = "loaded"
        finally:
            self._metrics.adapter_loads.labels(outcome).inc()
        return adapter

    def _read(self, digest: str) -> Adapter:
        return read_adapter(self._read_content(digest)).for_serving()

    def _end(self, digest: str, ended: asyncio.Task[Adapter]) -> None:
        if self._loading.get(digest) is ended:
            del self._loading[digest]
