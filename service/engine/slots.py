"""Which LoRAs stand in the graph's pool of pages: filled when a batch needs them, least used out.

A page is one rank of one LoRA at every site. Batches hold what they run with: a page changes hands
only when no row in flight reads it. Filling copies kilobytes into the pool's own arrays, in the
thread that prepares the batch, while other batches run.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from adapters.lora import Lora
from backbone import BackboneError, LoraPool, PlacedLora
from service.metrics import EngineMetrics


@dataclass(slots=True)
class _Slot:
    pages: list[int]
    holders: int = 0
    placed: Future[PlacedLora] = field(default_factory=Future)


class LoraSlots:
    """LoRAs in one pool, by digest. Safe to use from several threads."""

    def __init__(self, pool: LoraPool, metrics: EngineMetrics) -> None:
        self._pool = pool
        self._metrics = metrics
        self._lock = threading.Lock()
        self._free = list(range(1, pool.ranks + 1))
        self._slots: OrderedDict[str, _Slot] = OrderedDict()  # least recently used first

    @contextmanager
    def held(self, lora: Lora) -> Iterator[PlacedLora]:
        """The place of a LoRA, which stays its own inside. The caller bounds what is held at once.

        A LoRA that is not there yet is filled by who needs it first; others wait for it alone.
        """
        slot = self._hold(lora)
        try:
            yield slot.placed.result()
        finally:
            with self._lock:
                slot.holders -= 1
                if slot.placed.done() and slot.placed.exception() is not None:
                    self._drop(lora.digest, slot)

    def _hold(self, lora: Lora) -> _Slot:
        with self._lock:
            slot = self._slots.get(lora.digest)
            is_new = slot is None
            if slot is None:
                slot = self._slots[lora.digest] = _Slot(self._take_pages(lora.rank))
            slot.holders += 1
            self._slots.move_to_end(lora.digest)
        if is_new:
            self._fill(slot, lora)
        return slot

    def _fill(self, slot: _Slot, lora: Lora) -> None:
        weights = {name: (site.a, site.b) for name, site in lora.sites.items()}
        try:
            slot.placed.set_result(self._pool.place(slot.pages, weights))
        except BaseException as error:
            slot.placed.set_exception(error)
        self._metrics.lora_fills.inc()

    def _take_pages(self, rank: int) -> list[int]:
        """Free pages; slots that nobody holds make room, the least recently used first."""
        idle = iter([each for each in self._slots.items() if not each[1].holders])
        while len(self._free) < rank:
            oldest = next(idle, None)
            if oldest is None:
                raise BackboneError("more LoRA ranks are in use at once than the pool has")
            self._drop(*oldest)
        pages, self._free = self._free[:rank], self._free[rank:]
        return pages

    def _drop(self, digest: str, slot: _Slot) -> None:
        if self._slots.get(digest) is slot and not slot.holders:
            del self._slots[digest]
            self._free += slot.pages
