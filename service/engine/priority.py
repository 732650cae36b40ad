"""Who goes first where threads outnumber cores."""

import os
import sys
import threading
from contextlib import suppress

_NICE = 4  # by which threads that compute stand behind the event loop


def give_way() -> None:
    """Let the event loop go before this thread: it waits up to 4 ms for a core otherwise.

    Threads that ONNX Runtime makes for a run of several are not concerned.
    """
    if sys.platform != "linux":  # elsewhere a thread has no priority of its own
        return
    thread = threading.get_native_id()
    with suppress(OSError):  # a sandbox may forbid it
        nice = os.getpriority(os.PRIO_PROCESS, thread) + _NICE
        os.setpriority(os.PRIO_PROCESS, thread, min(19, nice))
