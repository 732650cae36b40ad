"""Much work at once leaves the threads free in which the registry is followed."""

import asyncio
import threading

from adapters.errors import NotFound
from service.aside import aside
from service.engine import ResidentAdapters
from service.metrics import Metrics

MANY = 64  # more than asyncio has threads, on any machine


async def test_long_work_and_loads_keep_nobody_from_following_the_registry() -> None:
    done = threading.Event()

    def load(_: str) -> bytes:
        done.wait(20)
        raise NotFound("no such version")

    residents = ResidentAdapters(load, 2**20, Metrics())
    tasks = [asyncio.create_task(aside(True, done.wait, 20)) for _ in range(MANY)]
    loads = [asyncio.create_task(residents.get(f"{number:064x}")) for number in range(MANY)]
    await asyncio.sleep(0)
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "followed"), 5) == "followed"
    finally:
        done.set()
        await asyncio.gather(*tasks, *loads, return_exceptions=True)


async def test_little_work_is_done_at_once() -> None:
    assert await aside(False, threading.get_ident) == threading.get_ident()
    assert await aside(True, threading.get_ident) != threading.get_ident()
