"""Processes forked from one that has imported everything and done nothing else.

So imports take their seconds and memory once, however many processes there are. A fork of the
process that asks would copy locks which its threads hold.
"""

import multiprocessing
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running

_IMPORTED = ["training.fleet.one_thread", "training.fleet.work"]


def forking() -> ForkServerContext:
    """What makes such processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def begin_imports() -> None:
    """Begin with the imports, beside what is done here until the first process is needed."""
    forking()
    ensure_running()
