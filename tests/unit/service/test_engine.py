import asyncio
import threading
from collections.abc import Sequence

import pytest

from adapters.adapter import Adapter
from adapters.answers import Answer, Classified
from adapters.errors import Overloaded
from adapters.heads import HeadFailed
from backbone import TextRow
from service.engine import Engine, ResidentAdapters
from service.metrics import Metrics
from service.testing import FakeBackbone
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
    return asyncio.create_task(engine.answer(rows(engine, *texts), adapter, top_k))


async def test_each_row_gets_its_ranked_labels_in_the_rows_order() -> None:
    adapter = make_adapter(labels=("a", "b", "c"))
    async with running(FakeBackbone()) as engine:
        answers = await engine.answer(rows(engine, "xxx", "x", "xx more words"), adapter, 2)
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
        assert await engine.answer(rows(engine, "x"), adapters[1], 1) == [expected(adapters[1], 1)]
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
            await engine.answer(rows(engine, "x", "xxxxx", "x"), overflowing, 1)


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
    async with running(FakeBackbone(before_run=gate), batch_tokens=1) as engine:
        with pytest.raises(HeadFailed):
            await engine.answer(rows(engine, "xxxxx", *["x"] * 20), overflowing, 1)
        await engine.answer(rows(engine, "x"), overflowing, 1)
    assert len(gate.runs) <= 3  # the one after the bad one may have begun


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
        assert await engine.answer(rows(engine, "xx"), adapter, 1) == [expected(adapter, 2)]


async def test_a_full_queue_refuses_and_what_waits_is_answered() -> None:
    gate, metrics = Gate(), Metrics()
    adapter = make_adapter()
    async with running(FakeBackbone(before_run=gate), queue_rows=3, metrics=metrics) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        waiting = ask(engine, adapter, "xx", "xx")
        await turn()
        with pytest.raises(Overloaded, match="2 rows wait already"):
            await engine.answer(rows(engine, "xxx", "xxx"), adapter, 1)
        last = ask(engine, adapter, "xxx")  # for one there is room
        await turn()
        assert metrics.registry.get_sample_value("headstock_queue_rows", {"backbone": "fake"}) == 3
        gate.open()
        assert await waiting == [expected(adapter, 2)] * 2
        assert await last == [expected(adapter, 3)]
        assert await first == [expected(adapter, 1)]
    assert metrics.registry.get_sample_value("headstock_queue_rows", {"backbone": "fake"}) == 0


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
            await engine.answer(rows(engine, "x"), adapter, 1)
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
        answers = await engine.answer(rows(engine, "x", "xx"), adapter, 1)
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
        answers = await engine.answer(rows(engine, *texts), adapter, 1)
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
            answers = await engine.answer(rows(engine, *texts), adapter, 2)
            assert answers == [expected(adapter, length, 2) for length in lengths]

    async with running(backbone, runs=4, batch_tokens=64) as engine:
        await asyncio.gather(*(call(engine, caller) for caller in range(200)))
    assert sum(backbone.batches) == 3 * sum(1 + caller % 4 for caller in range(200))
    assert max(backbone.batches) > 4
