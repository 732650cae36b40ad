"""Work of uncertain size: done at once where it is little, in a thread where it is much."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Not asyncio's threads, which follow the registry: a revoked key would wait for them.
_THREADS: Final = ThreadPoolExecutor(4, "aside")


async def aside(is_much: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns. In a thread it holds up no other request; a thread costs 100 µs."""
    if is_much:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_THREADS, partial(work, *args, **kwargs))
    return work(*args, **kwargs)
