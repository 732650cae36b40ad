"""Whether a request is sent again, and when. Pure: no clock, no chance of its own."""

from dataclasses import dataclass
from typing import Literal

from headstock.client.errors import RequestFailed

# Where a request ended: before it was sent, after it with no answer, or with a refusal.
Fate = Literal["unsent", "lost", "refused"]
_WORTH_IT = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Retry:
    """How patient a client is.

    `attempts` of one request in all; `patience_s` bounds the waits between them together. Waits
    are what the server asks for, or else grow from `first_wait_s` to `longest_wait_s`.
    `reconnects`: also where the server cannot be reached.
    """

    attempts: int = 5
    patience_s: float = 30.0
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    reconnects: bool = True

    def wait_s(
        self,
        failed: RequestFailed,
        fate: Fate,
        is_repeatable: bool,
        attempt: int,
        waited_s: float,
        chance: float,
    ) -> float | None:
        """Seconds to wait before the next attempt; None: give up.

        `attempt` counts those that were made, from 1; `chance` in [0, 1) spreads clients that fail
        at one moment. `is_repeatable`: done twice, the request leaves what it leaves done once.
        """
        if attempt >= self.attempts or not self._may(failed, fate, is_repeatable):
            return None
        if failed.retry_after_s is not None:
            wait = failed.retry_after_s * (1 + chance / 4)
        else:
            grown = self.first_wait_s * 2.0 ** (attempt - 1)
            wait = min(self.longest_wait_s, grown) * (1 + chance) / 2
        return wait if waited_s + wait <= self.patience_s else None

    def _may(self, failed: RequestFailed, fate: Fate, is_repeatable: bool) -> bool:
        if fate == "unsent":
            return self.reconnects
        if fate == "lost":
            return is_repeatable
        if failed.status not in _WORTH_IT:
            return False
        # With one of these the server says that it has done nothing; of what a proxy answers, and
        # of what was not done in time, nobody knows.
        undone = {"tenant-overloaded", "overloaded", "adapter-unavailable", "registry-unavailable"}
        return is_repeatable or failed.code in undone
