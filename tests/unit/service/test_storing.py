"""Small changes have their turn between the parts of a long file; who gives up leaves nothing."""

import asyncio
from typing import Any, cast

import pytest

from service.changes import Changes
from service.storing import PART_BYTES, Storing

LONG = bytes(5 * PART_BYTES - 1)


class Record:
    """A registry and a follower that only write down what is asked of them."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def begin_upload(self, _: str) -> None:
        self.done.append("begin")

    def add_part(self, _: str, number: int, content: bytes) -> None:
        self.done.append(f"part {number} of {len(content)}")

    def drop_upload(self, _: str) -> None:
        self.done.append("drop")

    def small(self) -> None:
        self.done.append("small")

    async def catch_up(self) -> None:
        pass


def storing() -> tuple[Record, Changes, Storing]:
    record = Record()
    changes = Changes(cast(Any, record), cast(Any, None))
    return record, changes, Storing(cast(Any, record), changes)


async def test_a_small_change_waits_for_one_part_at_most() -> None:
    record, changes, store = storing()

    async def publish() -> None:
        async with store.stored(LONG) as upload:
            assert upload is not None

    uploads = [asyncio.create_task(publish()) for _ in range(4)]
    await asyncio.sleep(0)
    for _ in range(3):
        n_before = len(record.done)
        await changes.make(record.small)
        assert record.done.index("small", n_before) <= n_before + 2
    await asyncio.gather(*uploads)
    parts = [each for each in record.done if each.startswith("part")]
    sizes = [*[PART_BYTES] * 4, PART_BYTES - 1]
    assert parts == [f"part {number} of {size}" for number, size in enumerate(sizes)] * 4
    await changes.stop()


async def test_a_short_file_has_no_parts() -> None:
    record, changes, store = storing()
    async with store.stored(bytes(PART_BYTES)) as upload:
        assert upload is None
    assert record.done == []
    await changes.stop()


@pytest.mark.parametrize("when", ["among the parts", "when they are stored"])
async def test_an_upload_that_is_given_up_is_dropped(when: str) -> None:
    record, changes, store = storing()
    stored = asyncio.Event()

    async def publish() -> None:
        async with store.stored(LONG):
            stored.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(publish())
    if when == "when they are stored":
        await stored.wait()
    else:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert record.done[-1] == "drop"
    await changes.stop()
