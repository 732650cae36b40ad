"""Answers of a running engine: each row its own, whatever shares its run."""

import asyncio
import dataclasses
import os
import sys
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.answers import Answer, Classified
from adapters.scoring import Scorer
from backbone import TextRow
from service.engine import Engine, Job, ResidentAdapters
from service.metrics import Metrics
from service.testing import FakeBackbone
from tests.engines import answer, ask
from tests.unit.service.support import PATIENCE_S, Gate, expected, make_adapter, rows, running, turn


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


async def test_several_adapters_answer_from_one_pass() -> None:
    backbone = FakeBackbone()
    adapters = [make_adapter(seed) for seed in range(3)]
    async with running(backbone) as engine:
        answers = await engine.answer(rows(engine, "x", "xx"), Job("acme", tuple(adapters)))
    assert answers == [[tuple(expected(each, length) for each in adapters) for length in (1, 2)]]
    assert sum(backbone.batches) == 2


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


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
async def test_the_event_loop_goes_before_the_runs() -> None:
    def nice(_: Sequence[TextRow] = ()) -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    seen: list[int] = []
    nice()
    if seen[0] == 19:
        pytest.skip("nothing can stand behind the lowest priority")
    async with running(FakeBackbone(before_run=nice)) as engine:
        await answer(engine, make_adapter(), ["x"])
    nice()
    before, during, after = seen
    assert before == after < during


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
async def test_a_run_of_rows_that_pass_goes_before_other_runs() -> None:
    def note(rows: Sequence[TextRow]) -> None:
        nice[len(rows)] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        gate(rows)

    nice: dict[int, int] = {}
    gate, adapter = Gate(), make_adapter()
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    async with running(FakeBackbone(before_run=note), batch_tokens=16) as engine:
        heavy = ask(engine, adapter, *["x"] * 100)
        await gate.entered()
        await gate.entered()  # one run more, since much waits
        newcomer = asyncio.create_task(answer(engine, adapter, ["xx"], tenant="newcomer"))
        await gate.entered()
        gate.open()
        await asyncio.gather(heavy, newcomer)
    assert nice[1] == before


async def test_batches_grow_with_the_queue() -> None:
    gate, adapter = Gate(), make_adapter()
    backbone = FakeBackbone(before_run=gate)
    async with running(backbone, batch_tokens=256) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        others = ask(engine, adapter, *["x " * 10] * 20)
        await turn()
        gate.open()
        await asyncio.gather(first, others)
    assert backbone.batches == [1, 10, 5, 4, 1]


async def test_there_is_one_run_more_only_where_much_waits() -> None:
    gate, adapter, metrics = Gate(), make_adapter(), Metrics()

    def waiting() -> float | None:
        return metrics.registry.get_sample_value("headstock_queue_rows", {"backbone": "fake"})

    async with running(FakeBackbone(before_run=gate), metrics=metrics, batch_tokens=40) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        few = ask(engine, adapter, *["x " * 10] * 7)
        await turn()
        await asyncio.sleep(0.05)  # in which a worker could take them
        assert waiting() == 7
        more = ask(engine, adapter, "x " * 10)
        async with asyncio.timeout(PATIENCE_S):
            while waiting() != 4:  # noqa: ASYNC110 - a gauge has no event
                await asyncio.sleep(0.001)
        gate.open()
        await asyncio.gather(first, few, more)
