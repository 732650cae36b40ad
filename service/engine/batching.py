"""Which waiting rows form the next batch. Pure: no clock, no I/O, no state."""

from collections.abc import Sequence

WINDOW = 512  # rows looked at from the head of the queue, so that a decision stays cheap


def next_batch(lengths: Sequence[int], token_budget: int) -> list[int]:
    """Positions of the rows to run next, from `lengths` [tokens] in order of arrival.

    The oldest row always goes, so nothing starves. Beside it go the rows nearest to it in length,
    older ones first, while rows x longest stays within `token_budget`: near lengths waste little
    on padding. A row longer than the budget goes alone.
    """
    if not lengths:
        return []
    window = range(min(len(lengths), WINDOW))
    nearest = sorted(window, key=lambda position: (abs(lengths[position] - lengths[0]), position))
    chosen: list[int] = []
    longest = 0
    for position in nearest:
        longest_then = max(longest, lengths[position])
        if chosen and longest_then * (len(chosen) + 1) > token_budget:
            break
        chosen.append(position)
        longest = longest_then
    return sorted(chosen)
