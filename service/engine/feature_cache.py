"""Features of inputs that were seen before, for tenants that consent to it.

One cache for all backbones of a server, so that one number bounds its memory. What is kept is what
the backbone gave, to the bit: a row that is answered from here gets the bytes that it would have
got from a run of its own.
"""

import sys
from collections import OrderedDict, defaultdict
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.metrics import Metrics

# Python's objects around an entry's bytes, and its places in the tables; a test measures them.
ENTRY_BYTES: Final = 360
OWN_BYTES: Final = 60  # more, for its place among its tenant's own
TENANT_BYTES: Final = 500  # for each tenant with entries of its own
_MOST_OF_LIMIT: Final = 16  # an entry has at most this part of the limit: one never empties it


class Key(NamedTuple):
    """What features depend on, in full: a hash alone could answer with another input's features.

    `scope` is the tenant that an entry is kept for; None, which no tenant is called, is for all
    that share. `backbone` and `lora` are digests. `ids` must say all of the preprocessed input.
    """

    scope: str | None
    backbone: str
    lora: str | None
    feature: str
    ids: bytes


class FeatureCache:
    """Features by what they depend on; the least recently used make room.

    Belongs to one event loop. With a limit of 0 it keeps and counts nothing.
    """

    def __init__(self, limit_bytes: int, metrics: Metrics) -> None:
        self.enabled = limit_bytes > 0
        self._limit_bytes = limit_bytes
        self._metrics = metrics
        self._entries: OrderedDict[Key, NDArray[np.float32]] = OrderedDict()
        self._own: defaultdict[str, set[Key]] = defaultdict(set)  # by tenant, to forget them by
        self._bytes = 0

    def get(
        self, scope: str | None, backbone: str, lora: str | None, feature: str, ids: bytes
    ) -> NDArray[np.float32] | None:
        """The kept feature, read-only; None where there is none."""
        if not self.enabled:
            return None
        key = Key(scope, backbone, lora, feature, ids)
        value = self._entries.get(key)
        if value is None:
            self._metrics.feature_cache_misses.inc()
            return None
        self._entries.move_to_end(key)
        self._metrics.feature_cache_hits.inc()
        return value

    def put(
        self,
        scope: str | None,
        backbone: str,
        lora: str | None,
        feature: str,
        ids: bytes,
        value: NDArray[np.float32],
    ) -> None:
        """Keep a copy of a feature: of a view, the whole batch would stay. Too large: not kept."""
        key = Key(scope, backbone, lora, feature, ids)
        if key in self._entries:  # two rows of one input were under way; both got the same
            self._entries.move_to_end(key)
        elif _size(key, value) <= self._limit_bytes // _MOST_OF_LIMIT:
            self._add(_interned(key), value)

    def forget(self, tenant: str) -> None:
        """Drop what is kept for this tenant alone; what it shared stays."""
        for key in tuple(self._own.get(tenant, ())):
            self._drop(key, self._entries.pop(key))
        self._show()

    def _add(self, key: Key, value: NDArray[np.float32]) -> None:
        copy = np.array(value, order="C")
        copy.flags.writeable = False
        self._entries[key] = copy
        self._bytes += _size(key, copy)
        if key.scope is not None:
            self._bytes += 0 if key.scope in self._own else TENANT_BYTES
            self._own[key.scope].add(key)
        while self._bytes > self._limit_bytes:
            self._drop(*self._entries.popitem(last=False))
        self._show()

    def _drop(self, key: Key, value: NDArray[np.float32]) -> None:
        """Account for an entry that was just taken out."""
        self._bytes -= _size(key, value)
        if key.scope is not None:
            self._own[key.scope].remove(key)
            if not self._own[key.scope]:
                del self._own[key.scope]
                self._bytes -= TENANT_BYTES

    def _show(self) -> None:
        self._metrics.feature_cache_bytes.set(self._bytes)
        self._metrics.feature_cache_entries.set(len(self._entries))


def _size(key: Key, value: NDArray[np.float32]) -> int:
    around = ENTRY_BYTES if key.scope is None else ENTRY_BYTES + OWN_BYTES
    return len(key.ids) + value.nbytes + around


def _interned(key: Key) -> Key:
    """The same key with one copy of each name and digest for all entries."""
    scope, backbone, lora, feature, ids = key
    return Key(
        scope and sys.intern(scope),
        sys.intern(backbone),
        lora and sys.intern(lora),
        sys.intern(feature),
        ids,
    )
