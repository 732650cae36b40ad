"""Long requests are parsed one after the other, in a thread of their own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from service.memory import give_back_memory

P = ParamSpec("P")
T = TypeVar("T")
_TRIM_AFTER_S = 1.0  # when the bodies are gone too, and once for all that came meanwhile


class ParseQueue:
    """One thread: parsers hold Python's lock, so that two at once would only starve the event loop.

    A request that is given up while it waits is not parsed.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parse")
        self._trimming: asyncio.TimerHandle | None = None

    async def run(
        self, is_long: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `work` returns or raises: at once, or when its turn has come."""
        if not is_long:
            return work(*args, **kwargs)
        loop = asyncio.get_running_loop()
        if self._trimming is None:
            self._trimming = loop.call_later(_TRIM_AFTER_S, self._trim)
        jobs = [partial(work, *args, **kwargs)]
        try:
            return await loop.run_in_executor(self._thread, lambda: jobs.pop()())
        except asyncio.CancelledError:
            jobs.clear()  # the thread's queue would keep a body whose bytes are lent no more
            raise

    def stop(self) -> None:
        """Take no more work."""
        if self._trimming is not None:
            self._trimming.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _trim(self) -> None:
        self._trimming = None
        self._thread.submit(give_back_memory)
