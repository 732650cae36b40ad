"""Who is next: rows of all tenants in one order that is fair by tokens. Pure: no clock, no I/O.

Start-time fair queueing (Goyal, Vin and Cheng, 1996), which is the virtual token counter of Sheng
et al. 2024 ("Fairness in Serving Large Language Models") kept as a tag a row. A row's tag is what
its tenant has been served, in tokens, when the row's turn comes; rows go by rising tags. A tenant
with a backlog has tags far ahead, so a newcomer, whose tag is that of the row served last, passes
all of it; and time without rows earns no credit.

To be next is not enough beside a neighbour that saturates: the row would wait for the end of a run
and then share a batch that is filled up with the neighbour's rows. So the rows of light tenants
pass: they go in a small batch of their own, in a run of its own. A tenant is light while it uses at
most half of an even share. Small batches cost more per token, so at most an eighth of all tokens
may pass, and only where a tenant that is not light has a batch waiting.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

from service.engine.batching import WINDOW, BatchLimits, Candidate, next_batch, smallest


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
_LIGHT_FACTOR: Final = 2  # a light tenant uses an even share divided by this, at most
_MAX_CHARGED: Final = 4096  # tokens ahead of virtual time: who was heavy for long is light soon
_TOKENS_PER_PASSING: Final = 8  # of so many tokens one may pass
_MAX_PASSING_BURST: Final = 256  # tokens that may pass at once after a time in which none did
_MAX_PASSING_ROWS: Final = 16  # rows that are looked at, which keeps the question cheap


@dataclass(slots=True)
class _Account:
    """A tenant's part of the queue.

    `next_tag` is the tag of its next row. `light_tag` is what it would be if its tokens cost
    `_LIGHT_FACTOR` times as much: a light tenant's stays near virtual time.
    """

    next_tag: int = 0
    light_tag: int = 0
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
        self._may_pass: float = _MAX_PASSING_BURST  # tokens
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
            light_tag = max(self._now, account.light_tag) + _LIGHT_FACTOR * item.cost
            account.light_tag = min(light_tag, self._now + _MAX_CHARGED)
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

    def passing(self, limits: BatchLimits) -> list[int]:
        """Positions of the rows that pass: those of light tenants, if another tenant has a batch.

        Empty if more tokens than allowed have passed already.
        """
        if self._may_pass <= 0:
            return []
        highest = self._now + _LIGHT_FACTOR * limits.tokens
        light, is_held_up = [], False
        for position, (_, _, item) in enumerate(islice(self._waiting, _MAX_PASSING_ROWS)):
            account = self._accounts[item.tenant]
            if account.light_tag <= highest:
                light.append(position)
            elif account.tokens >= limits.tokens:
                is_held_up = True
        return light if is_held_up else []

    def take(self, limits: BatchLimits) -> list[Item]:
        """Remove and return the next batch, empty where nothing waits."""
        batch = self._take(range(min(WINDOW, len(self._waiting))), limits)
        earned = sum(item.cost for item in batch) / _TOKENS_PER_PASSING
        self._may_pass = min(self._may_pass + earned, _MAX_PASSING_BURST)
        return batch

    def take_passing(self, limits: BatchLimits) -> list[Item]:
        """Remove and return a small batch of rows that pass, empty where none do."""
        batch = self._take(self.passing(limits), smallest(limits))
        self._may_pass -= sum(item.cost for item in batch)
        return batch

    def _take(self, positions: Sequence[int], limits: BatchLimits) -> list[Item]:
        """Remove and return the next batch of the rows at `positions`."""
        if not positions:
            return []
        self._now = max(self._now, self._waiting[0][0])
        candidates = [self._waiting[position] for position in positions]
        batch = []
        chosen = next_batch([item for _, _, item in candidates], limits)
        for place in reversed(chosen):
            _, number, item = self._waiting.pop(positions[place])
            del self._tags[number]
            batch.append(item)
            self._leave(item)
        batch.reverse()
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
            is_level = max(account.next_tag, account.light_tag) <= self._now
            if not account.rows and is_level:
                del self._accounts[tenant]
        self._sweep_at = 2 * len(self._accounts) + _FEW
