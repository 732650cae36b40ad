import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.adapter import Adapter
from adapters.answers import Answer, Classified
from adapters.errors import DeadlineExceeded, Overloaded, TenantOverloaded
from adapters.heads import HeadFailed
from adapters.registry import CacheMode
from adapters.scoring import Scorer
from backbone import TextRow
from service.engine import Engine, Job, ResidentAdapters
from service.metrics import Metrics
from service.testing import FakeBackbone
from tests.engines import answer
from tests.unit.service.support import (
    PATIENCE_S,
    Gate,
    expected,
    make_adapter,
    make_overflowing_adapter,
    rows,
    running,
    turn,
)


def ask(
    engine: Engine, adapter: Adapter, *texts: str, top_k: int = 1
) -> asyncio.Task[list[Answer]]:
    return asyncio.create_task(answer(engine, adapter, texts, top_k))


def wait_until(condition: Callable[[], bool]) -> None:
    ended = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ended
        time.sleep(0.001)


async def test_each_row_gets_its_ranked_labels_in_the_rows_order() -> None:
    adapter = make_adapter(labels=("a", "b", "c"))
    async with running(FakeBackbone()) as engine:
        answers = await answer(engine, adapter, ["xxx", "x", "xx more words"], 2)
    assert answers == [expected(adapter, length, 2) for length in (3, 1, 2)]
    for each in answers:
        assert isinstance(each, Classified)
        assert len(each.top) == 2


async def test_rows_of_several_adapters_share_a_run() -> None:
    gate, metrics = Gate(), Metrics()
    backbone = FakeBackbone(before_run=gate)
    adapters = [make_adapter(seed) for seed in range(3)]
    async with running(backbone, metrics=metrics) as engine:
        first = ask(engine, adapters[0], "x")
        await gate.entered()
        others = [ask(engine, adapter, "xx", "xxx") for adapter in adapters]
        await turn()
        gate.open()
        answers = await asyncio.gather(*others)
        await first
    assert backbone.batches == [1, 6]
    assert answers == [[expected(each, 2), expected(each, 3)] for each in adapters]
    value = metrics.registry.get_sample_value
    assert value("headstock_batch_adapters_sum", {"backbone": "fake"}) == 1 + 3
    assert value("headstock_batch_rows_sum", {"backbone": "fake"}) == 1 + 6
    assert value("headstock_batch_tokens_total", {"backbone": "fake", "kind": "text"}) == 7


async def test_a_failing_run_is_retried_row_by_row_and_only_the_bad_row_fails() -> None:
    gate, metrics = Gate(), Metrics()

    def before_run(batch: Sequence[TextRow]) -> None:
        gate(batch)
        if any(row.ids[0] == 4 for row in batch):
            raise RuntimeError("this row breaks the graph")

    adapters = [make_adapter(seed) for seed in range(3)]
    async with running(FakeBackbone(before_run=before_run), metrics=metrics) as engine:
        first = ask(engine, adapters[0], "x")
        await gate.entered()
        before, bad, after = (
            ask(engine, adapter, text)
            for adapter, text in zip(adapters, ("xx", "xxxx", "xxx"), strict=True)
        )
        await turn()
        gate.open()
        assert await before == [expected(adapters[0], 2)]
        assert await after == [expected(adapters[2], 3)]
        with pytest.raises(RuntimeError, match="this row breaks the graph"):
            await bad
        await first
        assert await answer(engine, adapters[1], ["x"]) == [expected(adapters[1], 1)]
    assert gate.runs == [[1], [2, 4, 3], [2], [4], [3], [1]]
    failed = metrics.registry.get_sample_value("headstock_failed_rows_total", {"backbone": "fake"})
    assert failed == 1


async def test_a_head_that_overflows_fails_alone() -> None:
    gate = Gate()
    good, overflowing = make_adapter(), make_overflowing_adapter()
    async with running(FakeBackbone(before_run=gate)) as engine:
        first = ask(engine, good, "x")
        await gate.entered()
        tasks = [
            ask(engine, good, "xxxxx"),
            ask(engine, overflowing, "xxxxx"),
            ask(engine, overflowing, "x"),
        ]
        await turn()
        gate.open()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await first
    assert gate.runs == [[1], [5, 5, 1]]  # no second run for a row whose head failed
    assert answers[0] == [expected(good, 5)]
    assert isinstance(answers[1], HeadFailed)
    assert answers[2] == [expected(overflowing, 1)]


async def test_a_request_fails_as_a_whole_with_its_bad_row() -> None:
    overflowing = make_overflowing_adapter()
    async with running(FakeBackbone()) as engine:
        with pytest.raises(HeadFailed):
            await answer(engine, overflowing, ["x", "xxxxx", "x"])


async def test_rows_of_a_caller_who_left_are_dropped_before_compute() -> None:
    gate = Gate()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate)) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        leaving = [ask(engine, adapter, "xx", "xx")]
        staying = ask(engine, adapter, "xxx")
        leaving.append(ask(engine, adapter, "xxxx"))
        await turn()
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        gate.open()
        assert await staying == [expected(adapter, 3)]
        await first
    assert gate.runs == [[1], [3]]


async def test_rows_beside_a_bad_one_of_their_request_are_not_computed_in_vain() -> None:
    gate = Gate()
    gate.open()
    overflowing = make_overflowing_adapter()

    def slow_run(batch: Sequence[TextRow]) -> None:
        gate(batch)
        time.sleep(0.02)

    async with running(FakeBackbone(before_run=slow_run), batch_tokens=1) as engine:
        with pytest.raises(HeadFailed):
            await answer(engine, overflowing, ["xxxxx", *["x"] * 20])
        await answer(engine, overflowing, ["x"])
    assert len(gate.runs) <= 5  # those after the bad one may have begun


async def test_rows_go_in_the_order_in_which_they_came() -> None:
    gate = Gate()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate), batch_tokens=1) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        others = [ask(engine, adapter, "x" * length) for length in (4, 2, 5, 3)]
        await turn()
        gate.open()
        await asyncio.gather(first, *others)
    assert gate.runs == [[1], [4], [2], [5], [3]]


async def test_a_caller_may_leave_while_its_rows_are_computed() -> None:
    gate = Gate()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate)) as engine:
        leaving = ask(engine, adapter, "x")
        await gate.entered()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        gate.open()
        assert await answer(engine, adapter, ["xx"]) == [expected(adapter, 2)]


async def test_a_tenant_over_its_share_is_refused_and_there_is_room_for_others() -> None:
    gate, metrics = Gate(), Metrics()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate), queue_rows=8, metrics=metrics) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        waiting = ask(engine, adapter, *["xx"] * 4)
        await turn()
        with pytest.raises(TenantOverloaded, match="4 rows waiting") as refused:
            await answer(engine, adapter, ["xxx"])
        assert refused.value.retry_after_s >= 0
        with pytest.raises(TenantOverloaded):
            engine.check_room("acme")
        engine.check_room("other")
        last = asyncio.create_task(answer(engine, adapter, ["xxx"], tenant="other"))
        await turn()
        assert metrics.registry.get_sample_value("headstock_queue_rows", {"backbone": "fake"}) == 5
        gate.open()
        assert await waiting == [expected(adapter, 2)] * 4
        assert await last == [expected(adapter, 3)]
        assert await first == [expected(adapter, 1)]
    assert metrics.registry.get_sample_value("headstock_queue_rows", {"backbone": "fake"}) == 0


async def test_a_full_server_refuses_everybody() -> None:
    gate = Gate()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate), queue_rows=4) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        waiting = [
            asyncio.create_task(answer(engine, adapter, ["xx"], tenant=name)) for name in "ab"
        ]
        await turn()
        with pytest.raises(Overloaded, match="2 rows wait already") as refused:
            await answer(engine, adapter, ["xxx"] * 3, tenant="other")
        assert not isinstance(refused.value, TenantOverloaded)
        gate.open()
        await asyncio.gather(first, *waiting)


async def test_rows_whose_time_is_over_are_dropped_before_compute() -> None:
    gate = Gate()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate)) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        now = time.perf_counter()
        late, soon = (
            asyncio.create_task(
                engine.answer(rows(engine, text), Job("acme", (adapter,), deadline=now + left_s))
            )
            for text, left_s in (("xx", 0.01), ("xxx", 60))
        )
        await turn()
        await asyncio.sleep(0.02)
        gate.open()
        with pytest.raises(DeadlineExceeded):
            await late
        assert await soon == [[(expected(adapter, 3),)]]
        await first
    assert gate.runs == [[1], [3]]


async def test_a_row_without_the_time_to_wait_is_refused_at_once() -> None:
    gate = Gate()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate), tokens_per_s=10) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        waiting = ask(engine, adapter, *["xx"] * 20)
        await turn()
        hurried = Job("acme", (adapter,), deadline=time.perf_counter() + 1)
        with pytest.raises(Overloaded, match="the caller has"):
            await engine.answer(rows(engine, "xxx"), hurried)
        gate.open()
        await asyncio.gather(first, waiting)


async def test_a_newcomer_goes_before_the_backlog_of_another_tenant() -> None:
    gate = Gate()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate), batch_tokens=1) as engine:
        heavy = ask(engine, adapter, *["x"] * 50)
        await gate.entered()
        await turn()
        light = asyncio.create_task(answer(engine, adapter, ["xxxxx"], tenant="light"))
        await turn()
        gate.open()
        await asyncio.gather(heavy, light)
    # The run under way and the batch made ready ahead were there before it.
    assert [5] in gate.runs[:4]


async def test_several_adapters_answer_from_one_pass() -> None:
    backbone = FakeBackbone()
    adapters = [make_adapter(seed) for seed in range(3)]
    async with running(backbone) as engine:
        answers = await engine.answer(rows(engine, "x", "xx"), Job("acme", tuple(adapters)))
    assert answers == [[tuple(expected(each, length) for each in adapters) for length in (1, 2)]]
    assert sum(backbone.batches) == 2


@pytest.mark.parametrize("mode", ["own", "shared"])
async def test_known_rows_are_answered_from_the_cache(mode: CacheMode) -> None:
    backbone = FakeBackbone()
    first, second = make_adapter(1), make_adapter(2)
    async with running(backbone, cache_bytes=10**6) as engine:
        texts = rows(engine, "x", "xx")
        ran = await engine.answer(texts, Job("acme", (first,), cache_mode=lambda: mode))
        known = await engine.answer(texts, Job("acme", (first,), cache_mode=lambda: mode))
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


async def test_a_rows_own_error_is_told_and_not_a_time_that_nobody_gave() -> None:
    overflowing = make_overflowing_adapter()
    async with running(FakeBackbone(), batch_tokens=1, runs=3) as engine:
        for _ in range(100):
            with pytest.raises(HeadFailed):
                await answer(engine, overflowing, ["x", "xxxxx", "x", "x", "x", "x"])


async def test_small_batches_say_nothing_of_what_the_backbone_can_do() -> None:
    adapter = make_adapter()
    async with running(FakeBackbone(), tokens_per_s=12_345) as engine:
        for _ in range(50):
            await answer(engine, adapter, ["x"])
        assert engine._workers.tokens_per_s == 12_345
        await answer(engine, adapter, ["x " * 200])
        assert engine._workers.tokens_per_s != 12_345


async def test_the_jobs_of_one_request_are_admitted_as_one() -> None:
    adapters = [make_adapter(seed) for seed in range(4)]
    async with running(FakeBackbone(), tokens_per_s=10, longest_wait_s=1) as engine:
        texts = rows(engine, *["x x x x"] * 5)  # four times more than could ever wait
        answers = await engine.answer(texts, *(Job("acme", (each,)) for each in adapters))
    assert answers == [[(expected(each, 1),)] * 5 for each in adapters]


async def test_of_several_jobs_one_that_fails_ends_the_request() -> None:
    good, overflowing = make_adapter(), make_overflowing_adapter()
    async with running(FakeBackbone(), batch_tokens=1) as engine:
        jobs = [Job("acme", (each,)) for each in (good, overflowing, overflowing, good)]
        with pytest.raises(HeadFailed):
            await engine.answer(rows(engine, *["xxxxx"] * 5), *jobs)
        assert await answer(engine, good, ["x"]) == [expected(good, 1)]
        assert len(engine._queue) == 0


async def test_a_batch_made_ready_is_not_run_for_callers_who_left_meanwhile() -> None:
    gate = Gate()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate), batch_tokens=1) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        leaving, staying = ask(engine, adapter, "xx"), ask(engine, adapter, "xxx")
        await asyncio.to_thread(wait_until, lambda: len(engine._queue) == 1)  # one is ready
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        gate.open()
        assert await staying == [expected(adapter, 3)]
        await first
    assert gate.runs == [[1], [3]]


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


async def test_neighbours_wait_for_no_slow_head() -> None:
    gate = Gate()
    quick = make_adapter()
    go = threading.Event()

    class Slow(Scorer):
        def answer(self, feature: NDArray[np.float32], top_k: int) -> Answer:
            assert go.wait(PATIENCE_S)
            return super().answer(feature, top_k)

    slow = dataclasses.replace(quick, scorer=Slow(quick.scorer.head, quick.scorer.task), size=2**21)
    async with running(FakeBackbone(before_run=gate)) as engine:
        first = ask(engine, quick, "x")
        await gate.entered()
        held = [ask(engine, slow, "xx") for _ in range(3)]
        beside = ask(engine, quick, "xxx")
        await turn()
        gate.open()
        async with asyncio.timeout(PATIENCE_S / 4):
            assert await beside == [expected(quick, 3)]
        go.set()
        await asyncio.gather(first, *held)


async def test_stop_answers_what_is_computed_and_refuses_what_waits() -> None:
    gate = Gate()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate)) as engine:
        computed = ask(engine, adapter, "x")
        await gate.entered()
        waiting = ask(engine, adapter, "xx")
        await turn()
        stopping = asyncio.create_task(engine.stop())
        await turn()
        gate.open()
        await stopping
        assert await computed == [expected(adapter, 1)]
        with pytest.raises(Overloaded, match="stopping"):
            await waiting
        with pytest.raises(Overloaded, match="stopping"):
            await answer(engine, adapter, ["x"])
    assert gate.runs == [[1]]


async def test_a_row_keeps_its_version_though_another_took_its_place() -> None:
    gate = Gate()
    old, new = make_adapter(1), make_adapter(2)
    residents = ResidentAdapters(lambda _: b"", 10**6, Metrics())
    residents.put(old)
    async with running(FakeBackbone(before_run=gate)) as engine:
        first = ask(engine, old, "x")
        await gate.entered()
        waiting = ask(engine, await residents.get(old.digest), "xx")
        await turn()
        residents.put(new)
        residents.drop(old.digest)
        after = ask(engine, await residents.get(new.digest), "xx")
        await turn()
        gate.open()
        assert await waiting == [expected(old, 2)]
        assert await after == [expected(new, 2)]
        await first
    assert expected(old, 2) != expected(new, 2)


async def test_as_many_runs_at_once_as_allowed() -> None:
    # The barrier opens for two runs at the same time, and for nothing else.
    barrier = threading.Barrier(2)
    adapter = make_adapter()

    def before_run(_: Sequence[TextRow]) -> None:
        barrier.wait(PATIENCE_S)

    async with running(FakeBackbone(before_run=before_run), runs=2, batch_tokens=1) as engine:
        answers = await answer(engine, adapter, ["x", "xx"])
    assert answers == [expected(adapter, 1), expected(adapter, 2)]


async def test_one_run_at_a_time_where_one_is_allowed() -> None:
    gate = Gate()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate), runs=1, batch_tokens=1) as engine:
        task = ask(engine, adapter, "x", "xx")
        await gate.entered()
        await turn()
        assert gate.runs == [[1]]
        gate.open()
        await task
    assert gate.runs == [[1], [2]]


async def test_a_request_of_thousands_of_rows_is_answered_in_order() -> None:
    adapter = make_adapter()
    lengths = [1 + number % 9 for number in range(3000)]
    async with running(FakeBackbone(), runs=2) as engine:
        texts = ["x" * length for length in lengths]
        answers = await answer(engine, adapter, texts)
    by_length = {length: expected(adapter, length) for length in set(lengths)}
    assert answers == [by_length[length] for length in lengths]


async def test_many_callers_at_once_each_get_their_own_answers() -> None:
    adapters = [make_adapter(seed, tuple("abcdefg"[: 2 + seed])) for seed in range(5)]
    backbone = FakeBackbone()

    async def call(engine: Engine, caller: int) -> None:
        adapter = adapters[caller % len(adapters)]
        lengths = [1 + (caller + row) % 13 for row in range(1 + caller % 4)]
        for _ in range(3):
            texts = ["x" * length + " more" * (length % 5) for length in lengths]
            answers = await answer(engine, adapter, texts, 2)
            assert answers == [expected(adapter, length, 2) for length in lengths]

    async with running(backbone, runs=4, batch_tokens=64) as engine:
        await asyncio.gather(*(call(engine, caller) for caller in range(200)))
    assert sum(backbone.batches) == 3 * sum(1 + caller % 4 for caller in range(200))
    assert max(backbone.batches) > 4
