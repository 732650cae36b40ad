"""How long a request may take, and why it was given up: one clock for all of its reasons."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from adapters.errors import DeadlineExceeded, HeadstockError
from service.errors import TimedOut, TooSlow

NO_KEY_S = 2.0  # for the message of a call that needs no key

Reason = Callable[[], HeadstockError]


class Patience:
    """An async context whose body ends when its time is over, by the reason that held then.

    Reasons are made when they are raised: an error that is kept grows with each traceback.
    """

    def __init__(self, seconds: float, reason: Reason) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(seconds)
        self._reason = reason

    def extend(self, seconds: float, reason: Reason) -> None:
        """From now on `seconds`, and another reason."""
        if not self._timeout.expired():  # else the reason that it ended by stays
            self._reason = reason
            self._timeout.reschedule(self._loop.time() + seconds)

    def end(self, reason: Reason) -> None:
        """Give the request up now."""
        self.extend(0, reason)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise self._reason() from None


def late(given_s: float, request_s: float) -> Reason:
    """Make the reason for the end of a request that its caller gave `given_s` seconds.

    Each request has `request_s`, whatever its caller says.
    """

    def reason() -> DeadlineExceeded | TimedOut:
        if given_s < request_s:
            return DeadlineExceeded(f"not done within the {given_s:g} seconds that were given")
        return TimedOut(f"not done after {request_s:g} seconds; look before you repeat a change")

    return reason


def slow(body_s: float) -> Reason:
    """Make the reason for the end of a request whose body did not come in `body_s` seconds."""
    return lambda: TooSlow(f"the body was not there after {body_s:g} seconds")
