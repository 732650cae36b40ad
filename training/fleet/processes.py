"""Jobs in processes of this computer, one of each at a time.

Not `ProcessPoolExecutor`: there, one process that dies fails whatever waits for any of them, and
processes whose parent was killed stay for ever.
"""

import multiprocessing
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from threading import Thread

from backbone.cores import use_cores
from training.fleet.forking import forking
from training.fleet.work import Outcome, Work, perform

_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class _Worker:
    process: ForkServerProcess
    connection: Connection

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()  # it holds nothing that must be finished
        self.process.join(_STOP_S)


def run_in_processes(works: Iterator[Work], n_processes: int) -> Generator[Outcome, None, None]:
    """Outcomes as they come. `works` is asked for the next one when a process is free.

    A job whose process died is tried once more at the end, alone: what killed it may have been the
    memory that others took.
    """
    died: list[tuple[Work, str]] = []
    yield from _run(works, n_processes, died)
    again, died = iter([work for work, _ in died]), []
    yield from _run(again, 1, died)
    for work, how in died:
        yield Outcome(
            work.number, 0.0, reason=f"the process that trained it {how}, twice; is memory short?"
        )


def _run(
    works: Iterator[Work], n_processes: int, died: list[tuple[Work, str]]
) -> Generator[Outcome, None, None]:
    idle: list[_Worker] = []
    busy: dict[Connection, tuple[_Worker, Work]] = {}
    try:
        while True:
            while len(busy) < n_processes and (work := next(works, None)) is not None:
                worker = idle.pop() if idle else _start()
                busy[worker.connection] = (worker, work)
                with suppress(OSError):  # if it died meanwhile, the wait below tells
                    worker.connection.send(work)
            if not busy:
                return
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker, work = busy.pop(connection)
                try:
                    outcome = connection.recv()
                except (EOFError, OSError):
                    worker.process.join(_STOP_S)
                    worker.stop()
                    died.append((work, _how(worker.process)))
                else:
                    idle.append(worker)
                    yield outcome
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.stop()


def _start() -> _Worker:
    context = forking()
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # else its end would not be seen
    return _Worker(process, ours)


def _how(process: ForkServerProcess) -> str:
    code = process.exitcode or 0
    return f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"


def _serve(connection: Connection) -> None:
    """A worker process: jobs in, outcomes out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to handle
    use_cores(1)  # the others have jobs of their own
    Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            work = connection.recv()
        except EOFError:
            return
        connection.send(perform(work))


def _end_with_parent() -> None:
    """A parent that was killed cannot end its children."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a child"
    parent.join()
    os._exit(1)
