"""Whether a request may join the queue. Pure: no clock, no I/O, no state.

A queue is bounded in rows and in time: its tokens are what the backbone gets through in the longest
wait. A tenant may hold ALPHA times what is left free of it, so its threshold falls as the queue
fills: one tenant alone gets half of the queue, n of them get 1/(n+1) each, and there is always room
for one more. Nobody needs a quota. (Choudhury and Hahne, "Dynamic queue length thresholds for
shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998.) A request that is
larger than any share joins where its tenant has nothing waiting and half of the queue is free.

Each rule says which fraction of what waits now may still be there when the request joins: 1 or more
admits it. The queue is taken to drain evenly, so the fraction also says how long to wait.
"""

from dataclasses import dataclass
from math import inf
from typing import Final, Literal, NamedTuple

ALPHA: Final = 1.0  # the share that a tenant may hold of what is free

Kind = Literal["tenant", "server", "deadline"]


class Load(NamedTuple):
    """Rows and their tokens, of a request or of what waits."""

    rows: int
    tokens: int


_NOTHING = Load(0, 0)


class Queue(NamedTuple):
    """What a queue may hold: rows, and the tokens of the longest wait [s] at a rate [tokens/s]."""

    rows: int
    longest_wait_s: float
    tokens_per_s: float  # as measured, above 0

    @property
    def tokens(self) -> float:
        """Capacity in tokens."""
        return self.tokens_per_s * self.longest_wait_s


class Waiting(NamedTuple):
    """What waits now: of all tenants, of the one that asks, and how many tenants it is of."""

    all: Load
    own: Load
    tenants: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request may join."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not: over its tenant's share, no room for anybody, or no time left to wait.

    `retry_after_s` is the estimated time until it could join, if nobody else came.
    """

    kind: Kind
    retry_after_s: float
    detail: str


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: Kind
    fraction: float  # of what waits now, that may be there when the request joins
    detail: str


def admit(
    request: Load,
    waiting: Waiting,
    queue: Queue,
    time_left_s: float | None = None,
    largest_other: Load = _NOTHING,
) -> Admitted | Refused:
    """Whether `request` may join; `time_left_s` is its caller's (None: it has all the time).

    `largest_other` is what the other tenant with the most of it has waiting.

    An empty queue takes a request of any size, and so does one of which half is free, from a tenant
    with nothing in it: such a request could never join otherwise.
    """
    counted = _counted(waiting, queue, largest_other)
    half = _half_free(waiting, queue) if counted == waiting and not waiting.own.rows else 0.0
    waiting = counted
    rules = [] if waiting.all.rows == 0 else [*_room(request, waiting, queue, half)]
    if rules and time_left_s is not None:
        rules.append(_deadline(request, waiting, queue, time_left_s))
    broken = [rule for rule in rules if rule.fraction < 1]
    if not broken:
        return Admitted()
    fraction = max(0.0, min(rule.fraction for rule in broken))
    retry_after_s = (1 - fraction) * waiting.all.tokens / queue.tokens_per_s
    return Refused(broken[0].kind, retry_after_s, broken[0].detail)


def is_roomy(request: Load, waiting: Waiting, queue: Queue, time_left_s: float | None) -> bool:
    """Whether `admit` would admit it without a closer look: the usual case, found fast."""
    tokens = waiting.all.tokens
    return (
        waiting.own.rows <= ALPHA * (queue.rows - waiting.all.rows - request.rows) - request.rows
        and waiting.own.tokens <= ALPHA * (queue.tokens - tokens - request.tokens) - request.tokens
        and (time_left_s is None or tokens + request.tokens <= time_left_s * queue.tokens_per_s)
    )


def find_excess(request: Load, tokens_per_s: float, time_s: float) -> str | None:
    """Tell why a request could not be done in `time_s` if nobody else asked; None if it could."""
    own_s = request.tokens / tokens_per_s
    if own_s <= time_s:
        return None
    fitting = max(1, int(request.rows * max(time_s, 0) / own_s))
    return (
        f"{request.rows} rows of {request.tokens} tokens would take at least {own_s:.1f} seconds "
        f"with nobody else there, and have {max(time_s, 0):.1f}; send at most {fitting} such "
        "inputs at once"
    )


def expected_wait_s(waiting: Waiting, queue: Queue) -> float:
    """How long a new row of this tenant waits, where tenants share the backbone evenly.

    Before it go its tenant's own rows, and of each other tenant as much in the meantime: nobody
    waits behind another's backlog.
    """
    ahead = min(waiting.all.tokens, waiting.own.tokens * waiting.tenants)
    return ahead / queue.tokens_per_s


def _counted(waiting: Waiting, queue: Queue, largest_other: Load) -> Waiting:
    """The load with no other tenant's as more than its share.

    One may hold more, where a big request of its came to an empty queue; that must not keep all
    others out.
    """
    share = ALPHA / (1 + ALPHA)
    rows = max(0, largest_other.rows - int(queue.rows * share))
    tokens = max(0, largest_other.tokens - int(queue.tokens * share))
    load = Load(waiting.all.rows - rows, waiting.all.tokens - tokens)
    return Waiting(load, waiting.own, waiting.tenants)


def _half_free(waiting: Waiting, queue: Queue) -> float:
    """The fraction of what waits now that leaves half of the queue free."""
    rows = _fraction(queue.rows / 2, waiting.all.rows)
    return min(rows, _fraction(queue.tokens / 2, waiting.all.tokens))


def _room(request: Load, waiting: Waiting, queue: Queue, enough: float) -> tuple[_Rule, ...]:
    """The rules of what is free; rows aside, any request fits at the fraction `enough`."""
    rows = (request.rows, waiting.all.rows, queue.rows)
    tokens = (request.tokens, waiting.all.tokens, queue.tokens)
    full = (
        f"{waiting.all.rows} rows wait already, about "
        f"{waiting.all.tokens / queue.tokens_per_s:.1f} seconds of work; try again in a moment"
    )
    over = (
        f"this tenant has {waiting.own.rows} rows waiting, and with {request.rows} more it would "
        "be over its share of the queue; wait for answers, or send fewer inputs at once"
    )
    share = min(_share(*rows, waiting.own.rows), _share(*tokens, waiting.own.tokens))
    return (
        _Rule("server", min(_free(*rows), max(enough, _free(*tokens))), full),
        _Rule("tenant", max(enough, share), over),
    )


def _free(new: int, total: int, capacity: float) -> float:
    """The fraction f with which f * total + new is within the capacity."""
    return _fraction(capacity - new, total)


def _share(new: int, total: int, capacity: float, own: int) -> float:
    """The fraction f with which f * own + new is within ALPHA * (capacity - f * total - new).

    Counted with the request in: else one big request would take far more than a share.
    """
    return _fraction(ALPHA * capacity - (1 + ALPHA) * new, own + ALPHA * total)


def _deadline(request: Load, waiting: Waiting, queue: Queue, time_left_s: float) -> _Rule:
    wait_s, own_s = expected_wait_s(waiting, queue), request.tokens / queue.tokens_per_s
    detail = (
        f"this would take about {wait_s + own_s:.1f} seconds, and the caller has "
        f"{max(time_left_s, 0):.1f} left; try again in a moment, or allow more time"
    )
    return _Rule("deadline", _fraction(time_left_s - own_s, wait_s), detail)


def _fraction(room: float, held: float) -> float:
    if held > 0:
        return room / held
    return inf if room >= 0 else 0.0
