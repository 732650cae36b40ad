"""What the service's unit tests share: adapters in memory, snapshots, runs that wait for a word."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np

from adapters.adapter import Adapter, build_adapter, read_adapter
from adapters.answers import Answer
from adapters.registry import ActiveRelease, CacheMode, LiveKey, Mark, Snapshot, TenantState
from backbone import TextRow
from service.engine import Engine
from service.metrics import Metrics
from service.testing import FakeBackbone
from tests.engines import make_engine
from tests.support import make_adapter_file, make_manifest

START = datetime(2026, 1, 2, tzinfo=UTC)
HISTORY = "a" * 32
PATIENCE_S = 20  # for what comes at once; only a failing test waits so long


def make_adapter(seed: int = 0, labels: tuple[str, ...] = ("no", "yes")) -> Adapter:
    return read_adapter(make_adapter_file(labels, seed=seed))


def make_overflowing_adapter() -> Adapter:
    """Sound for words of one letter, and overflowing for longer ones."""
    weight = np.full((2, 8), 3e37, dtype=np.float32)
    weight[1] *= -1
    tensors = {"head.weight": weight, "head.bias": np.zeros(2, dtype=np.float32)}
    golden = np.full((1, 8), 1e-38, dtype=np.float32)
    return read_adapter(build_adapter(make_manifest(), tensors, golden))


def expected(adapter: Adapter, word_length: int, top_k: int = 1) -> Answer:
    """What `adapter` says to a word of that length on a FakeBackbone."""
    return adapter.answer(np.full(8, word_length, dtype=np.float32), top_k)


def key(key_id: str, *scopes: str, secret_sha256: str = "0" * 64) -> LiveKey:
    return LiveKey(key_id, secret_sha256, tuple(scopes))  # type: ignore[arg-type]  # plain words


def release(adapter: str, digest: str, number: int = 1) -> ActiveRelease:
    return ActiveRelease(adapter, number, number, digest, "ab" * 32)


def tenant(
    *keys: LiveKey, releases: Sequence[ActiveRelease] = (), feature_cache: CacheMode = "off"
) -> TenantState:
    return TenantState(keys, {each.adapter: each for each in releases}, feature_cache)


def mark(seq: int, history: str = HISTORY) -> Mark:
    return Mark(seq, START, history)


def snapshot(seq: int, admin_keys: tuple[LiveKey, ...] = (), /, **tenants: TenantState) -> Snapshot:
    return Snapshot(mark(seq), tenants, admin_keys)


class Gate:
    """Given as `before_run`: holds each run until it is opened, and notes the rows of each."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []  # the rows' word lengths
        self._entered = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, rows: Sequence[TextRow]) -> None:
        self.runs.append([int(row.ids[0]) for row in rows])
        self._entered.release()
        assert self._open.wait(PATIENCE_S)

    def open(self) -> None:
        self._open.set()

    async def entered(self) -> None:
        """Wait for one more run to begin."""
        assert await asyncio.to_thread(self._entered.acquire, timeout=PATIENCE_S)


async def turn() -> None:
    """Let the tasks that were just made go as far as they can without waiting."""
    await asyncio.sleep(0)


@asynccontextmanager
async def running(
    backbone: FakeBackbone, *, metrics: Metrics | None = None, **limits: Any
) -> AsyncIterator[Engine]:
    """A started engine; `limits` as of `make_engine`."""
    engine = make_engine(backbone, metrics, **limits)
    engine.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield engine
    finally:
        await engine.stop()


def rows(engine: Engine, *texts: str) -> list[TextRow]:
    return [engine.backbone.preprocess(text) for text in texts]
