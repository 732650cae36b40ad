"""The engine's feature cache: who profits from it, and what it costs nobody."""

import asyncio
import dataclasses
import threading
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.answers import Answer
from adapters.registry import CacheMode
from adapters.scoring import Scorer
from service.engine import Job
from service.engine.job import Times
from service.testing import FakeBackbone
from tests.unit.service.support import expected, make_adapter, rows, running


@pytest.mark.parametrize("mode", ["own", "shared"])
async def test_known_rows_are_answered_from_the_cache(mode: CacheMode) -> None:
    backbone = FakeBackbone()
    first, second = make_adapter(1), make_adapter(2)
    async with running(backbone, cache_bytes=10**6) as engine:
        texts = rows(engine, "x", "xx")
        ran = await engine.answer(texts, Job("acme", (first,), cache_mode=lambda: mode))
        times = Times()
        again = Job("acme", (first,), cache_mode=lambda: mode)
        known = await engine.answer(texts, again, times=times)
        assert (times.queue_s, times.compute_s > 0) == (0, True)
        other_head = await engine.answer(texts, Job("acme", (second,), cache_mode=lambda: mode))
        assert sum(backbone.batches) == 2
        partly = await engine.answer(
            rows(engine, "x", "xxx"), Job("acme", (first,), cache_mode=lambda: mode)
        )
        assert sum(backbone.batches) == 3
        await engine.answer(texts, Job("acme", (first,)))
        assert sum(backbone.batches) == 5  # who did not consent does not profit
        await engine.answer(texts, Job("other", (first,), cache_mode=lambda: mode))
        assert sum(backbone.batches) == (7 if mode == "own" else 5)
    assert ran == known == [[(expected(first, 1),), (expected(first, 2),)]]
    assert other_head == [[(expected(second, 1),), (expected(second, 2),)]]
    assert partly == [[(expected(first, 1),), (expected(first, 3),)]]


async def test_a_cache_that_fails_costs_no_row_its_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("for the test")

    adapter = make_adapter()
    async with running(FakeBackbone(), cache_bytes=10**6) as engine:
        monkeypatch.setattr(engine._cache, "put", fail)
        job = Job("acme", (adapter,), cache_mode=lambda: "own")
        (answers,) = await engine.answer(rows(engine, "x", "xx"), job)
    assert answers == [(expected(adapter, 1),), (expected(adapter, 2),)]
    assert "were not cached" in caplog.text


async def test_heads_of_known_rows_hold_up_no_other_request() -> None:
    adapter, threads = make_adapter(), set[str]()

    class Watched(Scorer):
        def answer(self, feature: NDArray[np.float32], top_k: int) -> Answer:
            threads.add(threading.current_thread().name)
            return super().answer(feature, top_k)

    watched = dataclasses.replace(adapter, scorer=Watched(adapter.scorer.head, adapter.scorer.task))
    async with running(FakeBackbone(), cache_bytes=10**6) as engine:
        for _ in range(2):
            job = Job("acme", (watched,), cache_mode=lambda: "own")
            (answers,) = await engine.answer(rows(engine, "x", "xx"), job)
            assert answers == [(expected(adapter, 1),), (expected(adapter, 2),)]
    assert len(threads) >= 2
    assert threading.current_thread().name not in threads


MODES: tuple[CacheMode, ...] = ("off", "own", "shared")


@pytest.mark.parametrize(
    ("before", "after"), [(one, other) for one in MODES for other in MODES if one != other]
)
async def test_rows_under_way_are_kept_for_nobody_when_the_consent_changes(
    before: CacheMode, after: CacheMode
) -> None:
    mode, started, go_on = [before], threading.Event(), threading.Event()

    def wait(_: object) -> None:
        started.set()
        go_on.wait(20)

    backbone, adapter = FakeBackbone(before_run=wait), make_adapter()
    async with running(backbone, cache_bytes=10**6) as engine:
        texts = rows(engine, "secret")
        job = Job("acme", (adapter,), cache_mode=lambda: mode[0])
        under_way = asyncio.create_task(engine.answer(texts, job))
        await asyncio.to_thread(started.wait, 20)
        mode[0] = after
        go_on.set()
        await under_way
        assert not engine._cache._entries
        for tenant, scope in (("acme", "own"), ("acme", "shared"), ("other", "shared")):
            asked = Job(tenant, (adapter,), cache_mode=partial(str, scope))  # type: ignore[arg-type]  # one of the modes
            await engine.answer(texts, asked)
        assert sum(backbone.batches) == 3  # the last one found what acme had shared by itself
