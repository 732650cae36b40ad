"""The load generator: `python -m benchmarks.load`, a job on standard input, outcomes on output.

It shares its machine with the server that it measures, so it is light: raw HTTP/1.1 on sockets
that stay open, requests prepared beforehand, and no more of an answer read than its status,
its length and whether it has a Retry-After.
"""

import asyncio
import json
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import uvloop

from benchmarks.alarm import Alarm
from benchmarks.job import Job, Outcome, Stream, percentile
from benchmarks.wire import Connection, Requests

_GRACE_S = 12.0  # for answers that are due when the time is over; the server's deadline is 9 s
_MOST_CONNECTIONS = 3000  # of an open loop; more requests than that wait, and their clock runs
_FIRST_CONNECTIONS = 32


class Loop(ABC):
    """One stream on its way; open and closed loops differ in what sends the next request."""

    def __init__(self, stream: Stream, job: Job) -> None:
        self.stream = stream
        self._job = job
        self._requests = Requests(stream)
        self._statuses: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._lateness: list[float] = [0.0]
        self._rows = 0.0
        self._refused = self._retries = self.finished = 0
        self.under_way = 0
        self._begin = self._end = 0.0
        self._all: set[Connection] = set()
        self._stopped = False

    async def connect(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self), self._job.host, self._job.port
        )
        self._all.add(connection)
        return connection

    @abstractmethod
    async def prepare(self) -> None:
        """Connect, so that nothing but requests is measured."""

    def close(self) -> None:
        """Close what is connected."""
        for connection in self._all:
            connection.close()

    def start(self, now: float) -> None:
        """Begin to send."""
        self._begin = now + self._job.warmup_s
        self._end = self._begin + self._job.seconds

    def send(self, connection: Connection, intended: float) -> None:
        self.under_way += 1
        connection.send(self._requests.next(), intended)

    def answered(
        self, connection: Connection, intended: float, status: str, retry_after: bool
    ) -> None:
        now = time.perf_counter()
        self.under_way -= 1
        self.finished += 1
        if status == "200":
            self._rows += self.stream.rows * self.share(connection.sent, now)
        if self._begin <= intended < self._end:
            self._statuses[status] += 1
            if status == "200":
                self._latencies.append(1000 * (now - intended))
            elif status in ("429", "503"):
                self._refused += 1
                self._retries += retry_after
        self.free(connection, now)

    @abstractmethod
    def share(self, sent: float, now: float) -> float:
        """How much of an answered request lies within the time."""

    def lost(self, connection: Connection, intended: float | None) -> None:
        """A connection ended, with a request under way or without."""
        if intended is not None:
            self.under_way -= 1
            self._statuses["connection lost"] += 1
        self._all.discard(connection)
        self.gone(connection)

    @abstractmethod
    def free(self, connection: Connection, now: float, /) -> None:
        """A connection has nothing under way."""

    @abstractmethod
    def gone(self, connection: Connection, /) -> None:
        """A connection cannot be used any more."""

    @property
    def waiting(self) -> int:
        """Requests that should have been sent already."""
        return 0

    def stop(self) -> None:
        """Send no more: what was sent last has its time for an answer, too."""
        self._stopped = True

    def is_busy(self) -> bool:
        """Whether answers are due."""
        return self.under_way + (0 if self._stopped else self.waiting) > 0

    def outcome(self, cpu: float, finished: int) -> Outcome:
        """What came of it; the generator took `cpu` seconds for `finished` requests."""
        return Outcome(
            seconds=self._job.seconds,
            rows=round(self._rows, 2),
            statuses=dict(self._statuses),
            refused=self._refused,
            refused_with_retry_after=self._retries,
            unanswered=self.under_way,
            unsent=self.waiting,
            latencies_ms=[round(value, 3) for value in self._latencies],
            late_ms=round(percentile(self._lateness, 99), 3),
            cpu_us=round(1e6 * cpu / max(1, finished), 1),
            cores=round(cpu / self._job.seconds, 3),
        )


class ClosedLoop(Loop):
    """Clients that send their next request when they have the answer to their last."""

    async def prepare(self) -> None:
        self._clients = [await self.connect() for _ in range(self.stream.clients)]

    def start(self, now: float) -> None:
        super().start(now)
        for connection in self._clients:
            self.send(connection, time.perf_counter())

    def free(self, connection: Connection, now: float) -> None:
        if now < self._end:
            self.send(connection, now)

    def share(self, sent: float, now: float) -> float:
        """The part of its way: requests of 32 may be answered together, just before the end."""
        within = min(now, self._end) - max(sent, self._begin)
        return max(0.0, within) / (now - sent)

    def gone(self, _: Connection) -> None:
        if time.perf_counter() < self._end:
            self._reconnecting = asyncio.ensure_future(self._replace())

    async def _replace(self) -> None:
        self.free(await self.connect(), time.perf_counter())


class OpenLoop(Loop):
    """Requests at random moments, however the server fares: a Poisson process."""

    async def prepare(self) -> None:
        self._idle = [await self.connect() for _ in range(_FIRST_CONNECTIONS)]
        self._connections = len(self._idle)
        self._opening: set[asyncio.Task[None]] = set()
        self._due: deque[float] = deque()  # moments that have come, and found no connection
        assert self.stream.rate is not None
        gaps = np.random.default_rng(self.stream.seed + 1).exponential(
            1 / self.stream.rate,
            size=int(self.stream.rate * (self._job.warmup_s + self._job.seconds) * 1.5) + 100,
        )
        self._moments = iter(np.cumsum(gaps).tolist())
        self._alarm = Alarm(self._tick)

    def start(self, now: float) -> None:
        super().start(now)
        self._started = now
        self._next = now + next(self._moments)
        self._alarm.set(self._next)

    def _tick(self) -> None:
        now = time.perf_counter()
        while self._next <= now:
            if self._next >= self._end:
                self._alarm.close()
                return
            self._arrive(self._next, now)
            self._next = self._started + next(self._moments)
        self._alarm.set(self._next)

    def _arrive(self, intended: float, now: float) -> None:
        if self._idle:
            self._lateness.append(1000 * (now - intended))
            self.send(self._idle.pop(), intended)
            return
        self._due.append(intended)
        if self._connections < _MOST_CONNECTIONS:
            self._connections += 1
            task = asyncio.ensure_future(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        self.free(await self.connect(), time.perf_counter())

    def free(self, connection: Connection, _: float) -> None:
        if self._due and not self._stopped:
            self.send(connection, self._due.popleft())
        else:
            self._idle.append(connection)

    def gone(self, connection: Connection) -> None:
        self._connections -= 1
        if connection in self._idle:
            self._idle.remove(connection)

    def share(self, _: float, now: float) -> float:
        """All or nothing: what waits at the end is answered after it, and was no goodput."""
        return float(self._begin <= now < self._end)

    @property
    def waiting(self) -> int:
        return len(self._due)


async def run(job: Job) -> list[Outcome]:
    """Run all streams of a job at once."""
    loops = [
        (ClosedLoop if stream.rate is None else OpenLoop)(stream, job) for stream in job.streams
    ]
    for loop in loops:
        await loop.prepare()
    now = time.perf_counter()
    for loop in loops:
        loop.start(now)
    await asyncio.sleep(job.warmup_s)
    cpu, finished = time.process_time(), sum(loop.finished for loop in loops)
    await asyncio.sleep(now + job.warmup_s + job.seconds - time.perf_counter())
    cpu = time.process_time() - cpu
    finished = sum(loop.finished for loop in loops) - finished
    await _grace(loops)
    for loop in loops:
        loop.stop()
    await _grace(loops)
    outcomes = [loop.outcome(cpu, finished) for loop in loops]
    for loop in loops:
        loop.close()
    await asyncio.sleep(0)
    return outcomes


async def _grace(loops: Sequence[Loop]) -> None:
    """Wait for answers that are due, but not for ever. An event would cost something per answer."""
    given_up = time.perf_counter() + _GRACE_S
    while any(map(Loop.is_busy, loops)) and time.perf_counter() < given_up:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def main() -> None:
    """One job."""
    outcomes = uvloop.run(run(Job.from_json(sys.stdin.read())))
    json.dump([asdict(each) for each in outcomes], sys.stdout)


if __name__ == "__main__":
    main()
