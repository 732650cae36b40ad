"""Work of uncertain size: done at once where it is little, in a thread where it is much."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def aside(is_much: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns. In a thread it holds up no other request; a thread costs 100 µs."""
    if is_much:
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)
