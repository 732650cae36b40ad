"""How fast a backbone is, as measured lately, and how much that measurement is worth."""

from collections.abc import Callable
from typing import Final

_SMOOTHING: Final = 0.1  # weight of the newest batch
_SURE_BATCHES: Final = 30  # measured: the first ones run while the server is still busy starting
_SURE_S: Final = 60.0  # since the newest batch: what slowed the machine down then may be over
_DOUBT: Final = 4.0  # how much faster the backbone may really be if the measurement is not sure


class Speed:
    """Tokens per second of all runs together. Not thread-safe."""

    def __init__(self, tokens_per_s: float, clock: Callable[[], float]) -> None:
        self.tokens_per_s = tokens_per_s
        self._clock = clock
        self._batches = 0
        self._measured = clock()

    def measure(self, tokens_per_s: float) -> None:
        """Take in the speed of one more batch."""
        self.tokens_per_s += _SMOOTHING * (tokens_per_s - self.tokens_per_s)
        self._batches += 1
        self._measured = self._clock()

    @property
    def upper_bound(self) -> float:
        """The speed [tokens/s] that the backbone does not exceed.

        A request is refused for good only if it would be too slow at this speed: a low speed that
        was measured in a bad moment would otherwise refuse all large requests, and no batch of
        theirs would ever correct it.
        """
        is_recent = self._clock() - self._measured <= _SURE_S
        if self._batches >= _SURE_BATCHES and is_recent:
            return self.tokens_per_s
        return _DOUBT * self.tokens_per_s
