"""How many cores training takes: all that the process may use, or less where it is told so."""

import os

_limit: int | None = None


def cores() -> int:
    """Threads that are worth starting at once. Their number changes no result."""
    there = len(os.sched_getaffinity(0))
    return there if _limit is None else min(_limit, there)


def use_cores(limit: int) -> None:
    """Take `limit` cores at most from now on, in this process: others have the rest."""
    global _limit  # a property of the process, as its affinity is
    _limit = limit
