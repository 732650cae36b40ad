import asyncio
from collections.abc import Callable

import pytest

from adapters.errors import DeadlineExceeded
from service.errors import ClientLeft, TooSlow
from service.patience import Patience


def late() -> DeadlineExceeded:
    return DeadlineExceeded("late")


def left() -> ClientLeft:
    return ClientLeft("left")


def slow() -> TooSlow:
    return TooSlow("slow")


async def test_what_is_done_in_time_is_not_disturbed() -> None:
    async with Patience(60, late):
        await asyncio.sleep(0)


async def wait(patience: Patience, then: Callable[[], None] = lambda: None) -> None:
    """Outstay it; `then` is called when it is inside."""
    async with patience:
        then()
        await asyncio.sleep(60)


async def test_it_ends_by_the_reason_that_it_began_with() -> None:
    with pytest.raises(DeadlineExceeded, match="late"):
        await wait(Patience(0.01, late))


async def test_it_ends_by_the_reason_that_came_later() -> None:
    patience = Patience(60, slow)
    with pytest.raises(DeadlineExceeded):
        await wait(patience, lambda: patience.extend(0.01, late))


async def test_time_that_is_extended_is_there() -> None:
    async with Patience(0.02, slow) as patience:
        patience.extend(60, late)
        await asyncio.sleep(0.05)


async def test_it_can_be_ended_at_once() -> None:
    patience = Patience(60, late)
    with pytest.raises(ClientLeft):
        await wait(patience, lambda: patience.end(left))


async def test_an_end_that_comes_too_late_changes_nothing() -> None:
    patience = Patience(0.01, late)

    async def outstay() -> None:
        async with patience:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                patience.end(left)
                raise

    with pytest.raises(DeadlineExceeded):
        await outstay()


async def test_errors_of_the_body_pass() -> None:
    def fail() -> None:
        raise TimeoutError("of the body")

    with pytest.raises(TimeoutError, match="of the body"):
        await wait(Patience(60, late), fail)


async def test_each_request_has_an_error_of_its_own() -> None:
    """One that is shared would keep the traceback of every request that it ended."""
    raised = []
    for _ in range(2):
        with pytest.raises(DeadlineExceeded) as error:
            await wait(Patience(0, late))
        raised.append(error.value)
    assert raised[0] is not raised[1]
