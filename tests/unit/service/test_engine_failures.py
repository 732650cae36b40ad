"""Rows that fail in the engine: their request fails with their own error, and no other."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from adapters.heads import HeadFailed
from backbone import TextRow
from service.engine import Job
from service.metrics import Metrics
from service.testing import FakeBackbone
from tests.engines import answer, ask
from tests.unit.service.support import (
    Gate,
    expected,
    make_adapter,
    make_overflowing_adapter,
    rows,
    running,
    turn,
)


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


async def test_a_rows_own_error_is_told_and_not_a_time_that_nobody_gave() -> None:
    overflowing = make_overflowing_adapter()
    async with running(FakeBackbone(), batch_tokens=1, runs=3) as engine:
        for _ in range(100):
            with pytest.raises(HeadFailed):
                await answer(engine, overflowing, ["x", "xxxxx", "x", "x", "x", "x"])


async def test_of_several_jobs_one_that_fails_ends_the_request() -> None:
    good, overflowing = make_adapter(), make_overflowing_adapter()
    async with running(FakeBackbone(), batch_tokens=1) as engine:
        jobs = [Job("acme", (each,)) for each in (good, overflowing, overflowing, good)]
        with pytest.raises(HeadFailed):
            await engine.answer(rows(engine, *["xxxxx"] * 5), *jobs)
        assert await answer(engine, good, ["x"]) == [expected(good, 1)]
        assert len(engine._queue) == 0
