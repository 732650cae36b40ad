"""Long work goes one at a time, in a thread that is not the event loop's."""

import asyncio
import threading
import time

import pytest

from service.parsing import ParseQueue


async def test_short_work_is_done_at_once_and_long_work_one_at_a_time() -> None:
    queue, running, most = ParseQueue(), 0, 0

    def work() -> threading.Thread:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.002)
        running -= 1
        return threading.current_thread()

    assert await queue.run(False, work) is threading.main_thread()
    threads = await asyncio.gather(*(queue.run(True, work) for _ in range(20)))
    queue.stop()
    assert most == 1
    assert len(set(threads)) == 1
    assert threading.main_thread() not in threads


async def test_work_that_nobody_waits_for_any_more_is_not_begun() -> None:
    queue, gate, done = ParseQueue(), threading.Event(), list[int]()
    first = asyncio.create_task(queue.run(True, gate.wait, 10))
    others = [asyncio.create_task(queue.run(True, done.append, number)) for number in range(3)]
    await asyncio.sleep(0)
    for task in others[:2]:
        task.cancel()
    await asyncio.gather(*others[:2], return_exceptions=True)
    gate.set()
    await asyncio.gather(first, others[2])
    queue.stop()
    assert done == [2]


async def test_memory_is_given_back_once_for_all_work_of_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = threading.Semaphore(0)
    monkeypatch.setattr("service.parsing._TRIM_AFTER_S", 0.01)
    monkeypatch.setattr("service.parsing.give_back_memory", given.release)
    queue = ParseQueue()
    for _ in range(3):
        await asyncio.gather(*(queue.run(True, len, b"") for _ in range(5)))
    assert await asyncio.to_thread(given.acquire, timeout=10)
    assert not given.acquire(blocking=False)
    await queue.run(True, len, b"")
    assert await asyncio.to_thread(given.acquire, timeout=10)
    queue.stop()
