"""Who is next: rows of all tenants in one order that is fair by tokens. Pure: no clock, no I/O.

Start-time fair queueing (Goyal, Vin and Cheng, 1996), which is the virtual token counter of Sheng
et al. 2024 ("Fairness in Serving Large Language Models") kept as a tag a row. A row's tag is what
its tenant has been served, in tokens, when the row's turn comes; rows go by rising tags. A tenant
with a backlog has tags far ahead, so a newcomer, whose tag is that of the row served last, passes
all of it; and time without rows earns no credit.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from service.engine.batching import WINDOW, BatchLimits, Candidate, next_batch


class Row(Candidate, Protocol):
    """What can wait: a candidate for a batch that is some tenant's."""

    @property
    def tenant(self) -> str:
        """Whose it is."""
        ...

    @property
    def cost(self) -> int:
        """What it is charged with, in tokens."""
        ...


Item = TypeVar("Item", bound=Row)
_FEW = 256  # accounts that are worth no sweep


@dataclass(slots=True)
class _Account:
    """A tenant's part of the queue. `next_tag`: the tag of its next row."""

    next_tag: int = 0
    rows: int = 0
    tokens: int = 0


class FairQueue(Generic[Item]):
    """Waiting rows in the order of their turns."""

    def __init__(self) -> None:
        self.tokens = 0
        self.tenants = 0  # with rows that wait
        self._waiting: list[tuple[int, int, Item]] = []
        self._tags: dict[int, int] = {}  # by number
        self._accounts: defaultdict[str, _Account] = defaultdict(_Account)
        self._now = 0  # the highest tag that led a batch: virtual time
        self._number = 0
        self._sweep_at = _FEW

    def __len__(self) -> int:
        return len(self._waiting)

    def held_by(self, tenant: str) -> tuple[int, int]:
        """Rows and tokens that wait of one tenant."""
        account = self._accounts.get(tenant)
        return (account.rows, account.tokens) if account else (0, 0)

    def largest_but(self, tenant: str) -> tuple[int, int]:
        """Rows and tokens that wait of the other tenant that has most tokens of them."""
        # A copy, made at once: `check_room` looks without the lock.
        accounts = list(self._accounts.items())
        others = [account for name, account in accounts if name != tenant]
        largest = max(others, key=lambda account: account.tokens, default=_Account())
        return largest.rows, largest.tokens

    def add(self, items: Sequence[Item]) -> list[int]:
        """Let rows wait; their numbers, for `remove`."""
        numbers = []
        for item in items:
            account = self._accounts[item.tenant]
            tag = max(self._now, account.next_tag)
            account.next_tag = tag + item.cost
            self.tenants += not account.rows
            account.rows += 1
            account.tokens += item.cost
            self.tokens += item.cost
            self._number += 1
            self._tags[self._number] = tag
            # The numbers are distinct: items are never compared.
            insort(self._waiting, (tag, self._number, item))
            numbers.append(self._number)
        return numbers

    def remove(self, numbers: Iterable[int]) -> None:
        """Forget rows that nobody waits for any more; those already taken are passed over."""
        removed: dict[str, int] = {}  # tenant to the lowest tag
        for number in numbers:
            tag = self._tags.pop(number, None)
            if tag is not None:
                item = self._waiting.pop(bisect_left(self._waiting, (tag, number)))[2]
                removed[item.tenant] = min(tag, removed.get(item.tenant, tag))
                self._leave(item)
        for tenant, tag in removed.items():
            self._move_up(tenant, tag)
        if not self._waiting:
            self._start_anew()

    def _move_up(self, tenant: str, tag: int) -> None:
        """Rows behind removed ones take their turns: what was not served costs nothing."""
        tag = max(tag, self._now)
        behind = []
        if self._accounts[tenant].rows:
            behind = [
                (number, item)
                for old, number, item in self._waiting
                if item.tenant == tenant and old > tag
            ]
            moved = {number for number, _ in behind}
            self._waiting = [each for each in self._waiting if each[1] not in moved]
        for number, item in behind:
            insort(self._waiting, (tag, number, item))
            self._tags[number] = tag
            tag += item.cost
        self._accounts[tenant].next_tag = tag

    def take(self, limits: BatchLimits) -> list[Item]:
        """Remove and return the next batch, empty where nothing waits."""
        window = self._waiting[:WINDOW]
        if not window:
            return []
        chosen = next_batch([item for _, _, item in window], limits)
        self._now = max(self._now, window[0][0])
        for position in reversed(chosen):
            _, number, _ = self._waiting.pop(position)
            del self._tags[number]
        batch = [window[position][2] for position in chosen]
        for item in batch:
            self._leave(item)
        if not self._waiting:
            self._start_anew()
        elif len(self._accounts) > self._sweep_at:
            self._sweep()
        return batch

    def clear(self) -> list[Item]:
        """Remove and return everything."""
        items = [item for _, _, item in self._waiting]
        self._waiting.clear()
        self._start_anew()
        return items

    def _leave(self, item: Item) -> None:
        account = self._accounts[item.tenant]
        account.rows -= 1
        account.tokens -= item.cost
        self.tokens -= item.cost
        self.tenants -= not account.rows

    def _start_anew(self) -> None:
        """A time without rows levels everybody."""
        self._accounts.clear()
        self._tags.clear()
        self._now = 0
        self.tokens = self.tenants = 0

    def _sweep(self) -> None:
        """Forget who waits for nothing and is level with virtual time, as a new tenant would be."""
        for tenant, account in list(self._accounts.items()):
            if not account.rows and account.next_tag <= self._now:
                del self._accounts[tenant]
        self._sweep_at = 2 * len(self._accounts) + _FEW
