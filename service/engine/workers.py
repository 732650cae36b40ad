"""The threads that carry batches through a backbone: make ready, run, conclude.

Each worker does what is most urgent: first of all the graph shall never wait. A worker that ends a
run takes the next batch, and another one concludes what has run (computes heads, hands answers
over). Where much waits there is one run more: a thread that comes out of a run may wait for
Python's lock, up to 5 ms while others hold it, and its core has something to do meanwhile.

One more thread runs the rows that pass (`FairQueue.passing`) and waits for no other run to end. It
has a higher priority than the other threads, whose runs are slower for these milliseconds.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from adapters.errors import DeadlineExceeded
from adapters.lora import Lora
from backbone import Backbone, BackboneError, Features, PlacedLora
from service.engine.batching import BatchLimits, guided
from service.engine.fair_queue import FairQueue
from service.engine.job import Abandoned, Entry, Job, Outcome
from service.engine.priority import give_way
from service.engine.slots import LoraSlots
from service.engine.speed import Speed
from service.metrics import EngineMetrics

logger = logging.getLogger(__name__)
_SLICE_S = 0.002  # of heads, and what is done is handed over
_SLOW_BYTES = 2**20  # of heads: more takes a millisecond a row
_FULL_BATCHES = 2  # that wait make one run more worth it
Deliver = Callable[[Sequence[Outcome]], None]
_Passed = tuple[Entry, Features, int]  # a row, what its run gave, its place in that


@dataclass(slots=True, eq=False)
class _Batch:
    """Rows on their way. `held` keeps their LoRAs in place until the run is over."""

    entries: list[Entry]
    held: ExitStack = field(default_factory=ExitStack)
    loras: dict[str, PlacedLora] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    passed: list[_Passed] = field(default_factory=list)


class Workers:
    """Threads between a queue and its answers. `changed` guards the queue, for callers too."""

    def __init__(
        self,
        backbone: Backbone,
        runs: int,
        limits: BatchLimits,
        slots: LoraSlots | None,
        tokens_per_s: float,
        metrics: EngineMetrics,
    ) -> None:
        self.queue: FairQueue[Entry] = FairQueue()
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self._passes = threading.Condition(lock)  # rows that pass, for the thread that runs them
        self.speed = Speed(tokens_per_s, time.monotonic)
        self._backbone = backbone
        known = backbone.manifest.features.items()
        self._padded = {name for name, feature in known if feature.per_token}
        self._runs = runs
        self._limits = limits
        self._slots = slots
        self._metrics = metrics
        self._running = 0
        self._finished: deque[_Batch] = deque()
        self._slow: deque[_Passed] = deque()  # rows whose heads take long
        self._is_slow_on = False
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self, loop: asyncio.AbstractEventLoop, deliver: Deliver) -> None:
        """Begin; outcomes go to `deliver` on the loop."""

        def hand_over(outcomes: Sequence[Outcome]) -> None:
            loop.call_soon_threadsafe(deliver, outcomes)

        self._threads = [
            threading.Thread(
                target=work,
                args=(hand_over,),
                name=f"run-{self._backbone.name}",
                daemon=True,  # a loop that ends without `stop` shall not keep the process
            )
            for work in (self._work_on_passing, *[self._work] * (self._runs + 2))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Entry]:
        """Take no more batches; the rows that still wait."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
            self._passes.notify()
            return self.queue.clear()

    def notify(self) -> None:
        """Wake threads for rows that were added. Called with the lock held."""
        self.changed.notify()
        if self.queue.passing(self._limits):
            self._passes.notify()

    async def join(self) -> None:
        """Wait until the batches under way are answered."""
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _work(self, hand_over: Deliver) -> None:
        give_way()
        while task := self._choose(hand_over):
            try:
                task()
            except Exception:  # no row's fault: those are outcomes; and no reason to end
                logger.exception("a worker of backbone %s failed", self._backbone.name)

    def _work_on_passing(self, hand_over: Deliver) -> None:
        """Carry rows that pass from the queue to their answers, one batch after another."""
        while batch := self._next_passing():
            try:
                self._run(batch)
                self._conclude(batch, hand_over)
            except Exception:
                logger.exception("a worker of backbone %s failed", self._backbone.name)
        self._work(hand_over)  # slow heads of what passed last: the other workers may have ended

    def _next_passing(self) -> _Batch | None:
        """Wait for rows that pass; None when the engine stops."""
        with self.changed:
            while not self._stopping:
                if entries := self.queue.take_passing(self._limits):
                    return _Batch(entries)
                self._passes.wait()
        return None

    def _choose(self, hand_over: Deliver) -> Callable[[], None] | None:
        """The most urgent thing to do; waits for one. None when all is done and over."""
        with self.changed:
            while (urgent := self._most_urgent()) is None:
                if self._stopping and not self._slow:
                    self.changed.notify_all()  # for the others to see it too
                    return None
                self.changed.wait()
            task = self._begin(urgent, hand_over)
            if self._most_urgent() is not None:
                self.changed.notify()  # there is more to do, for another
            return task

    def _most_urgent(self) -> Literal["take", "conclude", "slow"] | None:
        if self._running < self._runs and len(self.queue):
            return "take"
        if self._finished:
            return "conclude"
        # One run more only where much waits: newcomers pass what waits, not what is taken.
        is_much = self.queue.tokens >= _FULL_BATCHES * self._limits.tokens
        if self._running == self._runs and is_much and not self.queue.passing(self._limits):
            return "take"
        # One worker at a time, and one row: all others stay with the graph and with quick heads.
        if self._slow and not self._is_slow_on:
            return "slow"
        return None

    def _begin(self, urgent: str, hand_over: Deliver) -> Callable[[], None]:
        if urgent == "take":
            limits = guided(self._limits, self.queue.tokens, self._runs)
            batch = _Batch(self.queue.take_passing(self._limits) or self.queue.take(limits))
            self._running += 1
            return partial(self._run_and_keep, batch)
        if urgent == "slow":
            self._is_slow_on = True
            return partial(self._conclude_slow, *self._slow.popleft(), hand_over)
        return partial(self._conclude, self._finished.popleft(), hand_over)

    def _make_ready(self, batch: _Batch) -> None:
        """Have the rows' LoRAs in place."""
        self._drop_unwanted(batch)
        loras = {job.lora.digest: job.lora for job in _jobs(batch.entries) if job.lora}
        for lora in loras.values():
            try:
                batch.loras[lora.digest] = batch.held.enter_context(self._hold(lora))
            except Exception as error:  # its own rows fail, and no others
                lost = [entry for entry in batch.entries if entry.lora == lora.digest]
                batch.outcomes += [Outcome.failure(entry, error) for entry in lost]
                batch.entries = [entry for entry in batch.entries if entry.lora != lora.digest]

    def _drop_unwanted(self, batch: _Batch) -> None:
        """Leave out rows that nobody waits for; what is late has to be told so."""
        now, wanted = time.perf_counter(), []
        for entry in batch.entries:
            if entry.pending.is_late(now):
                batch.outcomes += _late(entry)
            elif not entry.pending.is_over:
                wanted.append(entry)
        batch.entries = wanted

    def _hold(self, lora: Lora) -> AbstractContextManager[PlacedLora]:
        if self._slots is None:
            raise BackboneError(f"backbone {self._backbone.name} has no graph that takes LoRA")
        return self._slots.held(lora)

    def _run_and_keep(self, batch: _Batch) -> None:
        try:
            self._run(batch)
        finally:
            with self.changed:
                self._running -= 1
                self._finished.append(batch)

    def _run(self, batch: _Batch) -> None:
        try:
            self._make_ready(batch)
            self._pass(batch, batch.entries)
        finally:
            batch.held.close()

    def _pass(self, batch: _Batch, entries: Sequence[Entry]) -> None:
        """Run the graph; where it fails, each row gets a run of its own: one may have broken it."""
        if not entries:
            return
        try:
            features = self._features(batch, entries)
        except Exception as error:
            if len(entries) == 1:
                batch.outcomes.append(Outcome.failure(entries[0], error))
                return
            for entry in entries:
                self._pass(batch, [] if entry.pending.is_over else [entry])
        else:
            batch.passed += [(entry, features, place) for place, entry in enumerate(entries)]

    def _features(self, batch: _Batch, entries: Sequence[Entry]) -> Features:
        wanted = {name for job in _jobs(entries) for name in job.features}
        loras = [batch.loras[entry.lora] if entry.lora else None for entry in entries]
        started = time.perf_counter()
        for pending in {entry.pending for entry in entries}:
            pending.runs.append(started)
        features = self._backbone.run(
            [entry.row for entry in entries], wanted, loras if batch.loras else ()
        )
        self._observe(entries, started, time.perf_counter())
        return features

    def _conclude(self, batch: _Batch, hand_over: Deliver) -> None:
        """Each row's heads on its own part of the features; slow heads are left for later.

        What is done waits for no others for long: it is handed over every few milliseconds.
        """
        outcomes, began = batch.outcomes, time.perf_counter()
        quick, slow = _by_heads(batch.passed)
        if slow:
            with self.changed:
                self._slow.extend(slow)
                self.changed.notify()
        for passed in quick:
            outcomes += self._answer(*passed)
            now = time.perf_counter()
            if now - began > _SLICE_S:
                hand_over(outcomes)
                outcomes, began = [], now
        hand_over(outcomes)

    def _conclude_slow(
        self, entry: Entry, features: Features, place: int, hand_over: Deliver
    ) -> None:
        try:
            hand_over(self._answer(entry, features, place))
        finally:
            with self.changed:
                self._is_slow_on = False

    def _answer(self, entry: Entry, features: Features, place: int) -> list[Outcome]:
        """The row's own part of the features, and what its adapters say to it, if anybody waits."""
        pending, vectors = entry.pending, {}
        for name in pending.job.features:
            value = features[name][place]
            vectors[name] = value[: entry.length] if name in self._padded else value
        try:
            answers = pending.job.answer(entry.row, vectors, pending.is_in_vain)
        except Abandoned:
            return _late(entry) if pending.is_late(time.perf_counter()) else []
        except Exception as error:
            return [Outcome.failure(entry, error)]
        return [Outcome(entry, (answers, vectors))]

    def _observe(self, entries: Sequence[Entry], started: float, ended: float) -> None:
        metrics, seconds = self._metrics, ended - started
        text = sum(entry.length for entry in entries)
        padded = max(entry.length for entry in entries) * len(entries)
        if padded >= self._limits.tokens / 2:  # small batches do not say what can be done
            with self.changed:
                self.speed.measure(text * max(self._runs, self._running) / seconds)
        metrics.backbone_seconds.observe(seconds)
        metrics.batch_rows.observe(len(entries))
        adapters = {id(adapter) for job in _jobs(entries) for adapter in job.adapters}
        metrics.batch_adapters.observe(len(adapters))
        metrics.text_tokens.inc(text)
        metrics.padded_tokens.inc(padded)
        for entry in entries:
            metrics.queue_seconds.observe(started - entry.pending.arrived)


def _jobs(entries: Sequence[Entry]) -> Iterable[Job]:
    return {id(entry.pending): entry.pending.job for entry in entries}.values()


def _by_heads(passed: Sequence[_Passed]) -> tuple[list[_Passed], list[_Passed]]:
    """Those with quick heads, and those with slow ones."""
    kinds: tuple[list[_Passed], list[_Passed]] = ([], [])
    for each in passed:
        kinds[each[0].pending.job.head_bytes > _SLOW_BYTES].append(each)
    return kinds


def _late(entry: Entry) -> list[Outcome]:
    error = DeadlineExceeded("the time given was over before the row was done")
    return [Outcome.failure(entry, error)]
