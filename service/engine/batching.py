"""Which waiting rows form the next batch. Pure: no clock, no I/O, no state."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

WINDOW = 128  # rows looked at from the head of the queue, so that a decision stays cheap
_FREE_RANK = 16  # measured: rank 64 at all sites costs four times and more
_LEAST_TOKENS = 48  # smaller batches cost more than the wait behind larger ones
_MOST_PADDING = 1 / 20  # of a batch's tokens; small batches cost less than long padding does


def rank_factor(rank: int) -> int:
    """How many times a row costs what it costs without LoRA, roughly: little up to rank 16.

    Every row of a batch is computed with the largest rank of it.
    """
    return max(1, -(-rank // _FREE_RANK))


class Candidate(Protocol):
    """A waiting row, as far as batches are concerned."""

    @property
    def length(self) -> int:
        """Tokens."""
        ...

    @property
    def lora(self) -> str | None:
        """Digest of the row's LoRA."""
        ...

    @property
    def rank(self) -> int:
        """The LoRA's rank, 0 without."""
        ...


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of one batch: padded tokens, and the ranks of all different LoRAs together."""

    tokens: int
    ranks: int


def guided(limits: BatchLimits, waiting: int, runs: int) -> BatchLimits:
    """`limits` where `waiting` tokens wait for `runs` at once: half of an even share in each batch.

    A run cannot be stopped, so whoever comes next waits for its end: large batches are for long
    queues, which they shorten faster. (Guided self-scheduling: Polychronopoulos and Kuck, IEEE
    Transactions on Computers C-36(12), 1987.)
    """
    tokens = max(_LEAST_TOKENS, waiting // (2 * runs))
    return replace(limits, tokens=min(limits.tokens, tokens))


def smallest(limits: BatchLimits) -> BatchLimits:
    """Return `limits` for a batch that must end soon."""
    return replace(limits, tokens=min(limits.tokens, _LEAST_TOKENS))


def next_batch(waiting: Sequence[Candidate], limits: BatchLimits) -> list[int]:
    """Positions of the rows to run next, from `waiting` with whoever is next in front.

    The first row always goes, so nothing starves. Beside it go the rows nearest to it in length,
    those further in front first, as long as the batch holds its limits and a twentieth of its
    tokens, or two, are padding. Rows without LoRA and of ranks up to 16 mix; large ranks go with
    their like, and fewer at once. What is over a limit by itself goes alone.
    """
    if not waiting:
        return []
    first = waiting[0]
    longest, text, factor = first.length, first.length, rank_factor(first.rank)
    ranks, loras = first.rank, {first.lora}
    chosen = [0]
    for position in _nearest(waiting):
        row = waiting[position]
        if rank_factor(row.rank) != factor:
            continue
        longest_then = max(longest, row.length)
        padded = longest_then * (len(chosen) + 1)
        if padded * factor > limits.tokens:
            break  # a shorter row may fit yet, and would be far from the first in length
        padding = padded - text - row.length
        if padding > max(2, padded * _MOST_PADDING):
            continue
        if row.lora not in loras:
            if row.rank and ranks + row.rank > limits.ranks:
                continue
            loras.add(row.lora)
            ranks += row.rank
        chosen.append(position)
        longest = longest_then
        text += row.length
    return sorted(chosen)


def _nearest(waiting: Sequence[Candidate]) -> list[int]:
    """The other positions of the window, by distance in length, then by place."""
    length = waiting[0].length
    gaps = [abs(row.length - length) for row in waiting[:WINDOW]]
    return sorted(range(1, len(gaps)), key=gaps.__getitem__)
