"""What many callers share, bounded so that none of them can leave nothing for the next."""

from collections import Counter
from collections.abc import Hashable
from typing import Final

_KEPT: Final = 64  # one part in so many is not for those who take much at once


class Shares:
    """An amount of something (bytes, calls) that is lent, and given back.

    A holder may have as much as is left free by all (dynamic thresholds): one alone gets half, two
    a third each, and there is always something for one more. Who has nothing yet may also take what
    fits, but for a little that is left for others: it could never have much otherwise. Pure:
    nothing waits.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.lent = 0
        self._held: Counter[Hashable] = Counter()

    @property
    def free(self) -> int:
        """How much nobody has."""
        return self.total - self.lent

    def take(self, holder: Hashable, amount: int) -> bool:
        """Lend an amount, if the holder may have it."""
        if not self._may_take(self._held[holder], amount):
            return False
        self._held[holder] += amount
        self.lent += amount
        return True

    def give_back(self, holder: Hashable, amount: int) -> None:
        """What was lent is free again."""
        self.lent -= amount
        self._held[holder] -= amount
        if not self._held[holder]:
            del self._held[holder]

    def held(self, holder: Hashable) -> int:
        """How much a holder has."""
        return self._held[holder]

    def _may_take(self, held: int, amount: int) -> bool:
        if held:
            return held + amount <= self.free - amount
        kept = self.total // _KEPT if self.lent else 0
        return amount <= self.free - kept or amount <= self.free - amount
