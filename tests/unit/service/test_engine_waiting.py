"""Rows that wait in the engine: their turn, who is refused, and what is dropped before compute."""

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest

from adapters.errors import DeadlineExceeded, Overloaded, TenantOverloaded
from backbone import TextRow
from service.engine import Job
from service.engine.admission import Load
from service.engine.guess import LEAST
from service.engine.job import Times
from service.metrics import Metrics
from service.testing import FakeBackbone
from tests.engines import answer, ask
from tests.unit.service.support import PATIENCE_S, Gate, expected, make_adapter, rows, running, turn


def wait_until(condition: Callable[[], bool]) -> None:
    ended = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ended
        time.sleep(0.001)


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


async def test_a_request_knows_how_long_it_waited_and_was_computed() -> None:
    gate, times = Gate(), Times()
    job = Job("acme", (make_adapter(),))
    async with running(FakeBackbone(before_run=gate), batch_tokens=1) as engine:
        first = ask(engine, make_adapter(), "x")
        await gate.entered()
        asked = asyncio.create_task(engine.answer(rows(engine, "x"), job, times=times))
        await asyncio.sleep(0.1)
        gate.open()
        await asyncio.gather(first, asked)
    assert times.queue_s > 0.09
    assert times.compute_s > 0


async def test_the_wait_of_a_request_that_was_given_up_is_known() -> None:
    gate, times = Gate(), Times()
    job = Job("acme", (make_adapter(),))
    async with running(FakeBackbone(before_run=gate), batch_tokens=1) as engine:
        first = ask(engine, make_adapter(), "x")
        await gate.entered()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.answer(rows(engine, "x"), job, times=times), 0.1)
        gate.open()
        await first
    assert times.queue_s > 0.09
    assert times.compute_s == 0


async def test_a_request_given_up_within_its_run_was_being_computed() -> None:
    gate, times = Gate(), Times()
    job = Job("acme", (make_adapter(),))
    async with running(FakeBackbone(before_run=gate)) as engine:
        asked = asyncio.create_task(engine.answer(rows(engine, "x"), job, times=times))
        await gate.entered()
        await asyncio.sleep(0.1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        gate.open()
    assert times.compute_s > 0.09


async def test_rows_that_are_not_let_in_took_no_time() -> None:
    times, late = Times(), time.perf_counter() - 1
    async with running(FakeBackbone()) as engine:
        with pytest.raises(DeadlineExceeded):
            await engine.answer(
                rows(engine, "x"), Job("acme", (make_adapter(),), deadline=late), times=times
            )
    assert times.told() == {}


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
            engine.check_room("acme", LEAST, "off")
        engine.check_room("other", LEAST, "off")
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


async def test_a_newcomer_waits_for_no_run_of_a_neighbour_that_saturates() -> None:
    gate, adapter = Gate(), make_adapter()
    async with running(FakeBackbone(before_run=gate), batch_tokens=16) as engine:
        heavy = ask(engine, adapter, *["x"] * 100)
        await gate.entered()
        await gate.entered()  # one run more, since much waits
        newcomer = asyncio.create_task(answer(engine, adapter, ["xx"], tenant="newcomer"))
        await gate.entered()  # the neighbour's runs hold the gate
        assert gate.runs == [[1] * 16, [1] * 16, [2]]
        gate.open()
        assert await newcomer == [expected(adapter, 2)]
        await heavy


async def test_what_fails_in_a_run_of_a_newcomer_holds_up_no_other_newcomer() -> None:
    def fail(rows: Sequence[TextRow]) -> None:
        gate(rows)
        if rows[0].ids[0] == 3:
            raise ValueError("broken")

    gate, adapter = Gate(), make_adapter()
    async with running(FakeBackbone(before_run=fail), batch_tokens=16) as engine:
        heavy = ask(engine, adapter, *["x"] * 100)
        await gate.entered()
        await gate.entered()  # one run more, since much waits
        failing = asyncio.create_task(answer(engine, adapter, ["xxx"], tenant="failing"))
        await gate.entered()
        gate.open()
        with pytest.raises(ValueError, match="broken"):
            await failing
        assert await answer(engine, adapter, ["xx"], tenant="newcomer") == [expected(adapter, 2)]
        await heavy


async def test_slow_heads_of_a_newcomer_are_answered_while_the_engine_stops() -> None:
    gate, adapter, slow = Gate(), make_adapter(), make_adapter()
    object.__setattr__(slow, "size", 2**21)
    async with running(FakeBackbone(before_run=gate), batch_tokens=16) as engine:
        heavy = ask(engine, adapter, *["x"] * 100)
        await gate.entered()
        await gate.entered()  # one run more, since much waits
        newcomer = asyncio.create_task(answer(engine, slow, ["xx"], tenant="newcomer"))
        await gate.entered()
        stopping = asyncio.create_task(engine.stop())
        await turn()
        gate.open()
        assert await newcomer == [expected(slow, 2)]
        await stopping
        with pytest.raises(Overloaded):
            await heavy


async def test_small_batches_say_nothing_of_what_the_backbone_can_do() -> None:
    adapter = make_adapter()
    async with running(FakeBackbone(), tokens_per_s=12_345) as engine:
        for _ in range(50):
            await answer(engine, adapter, ["x"])
        assert engine._workers.speed.tokens_per_s == 12_345
        await answer(engine, adapter, ["x " * 200])
        assert engine._workers.speed.tokens_per_s != 12_345


async def test_the_jobs_of_one_request_are_admitted_as_one() -> None:
    adapters = [make_adapter(seed) for seed in range(4)]
    async with running(FakeBackbone(), tokens_per_s=10, longest_wait_s=1) as engine:
        texts = rows(engine, *["x x x x"] * 5)  # four times more than could ever wait
        answers = await engine.answer(texts, *(Job("acme", (each,)) for each in adapters))
    assert answers == [[(expected(each, 1),)] * 5 for each in adapters]


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


async def test_a_guess_refuses_only_who_has_rows_waiting() -> None:
    gate, adapter = Gate(), make_adapter()
    async with running(
        FakeBackbone(before_run=gate), longest_wait_s=1, tokens_per_s=100, batch_tokens=1
    ) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        engine.check_room("acme", Load(9, 900), "off")  # an empty queue takes all
        waiting = ask(engine, adapter, "x " * 20)
        await turn()
        engine.check_room("acme", Load(1, 20), "off")
        with pytest.raises(TenantOverloaded) as refusal:
            engine.check_room("acme", Load(1, 40), "off")
        assert refusal.value.retry_after_s > 0
        engine.check_room("acme", LEAST, "off")
        engine.check_room("globex", Load(1, 40), "off")
        with pytest.raises(TenantOverloaded):
            engine.check_room("acme", Load(1, 40), "own")  # there is no cache that knows them
        gate.open()
        await asyncio.gather(first, waiting)


async def test_a_guess_refuses_nobody_whose_features_may_be_known() -> None:
    gate, adapter = Gate(), make_adapter()
    async with running(
        FakeBackbone(before_run=gate), longest_wait_s=1, tokens_per_s=10, cache_bytes=2**20
    ) as engine:
        first = ask(engine, adapter, "x")
        await gate.entered()
        waiting = ask(engine, adapter, "x x x")
        await turn()
        engine.check_room("acme", Load(6, 6), "own")
        with pytest.raises(TenantOverloaded):
            engine.check_room("acme", Load(6, 6), "off")
        gate.open()
        await asyncio.gather(first, waiting)
