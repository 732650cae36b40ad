"""Drives batches of any tenants through one backbone.

It waits for nothing: a free run takes what is queued; while all runs are busy, rows pile up and
form the next batches. Decisions are in `batching.py`; here they are only carried out.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from adapters.adapter import Adapter
from adapters.answers import Answer
from adapters.errors import Overloaded
from backbone import Backbone, TextRow
from service.engine.batching import WINDOW, next_batch
from service.metrics import Metrics

_INLINE_CHARS = 20_000  # more text than this is tokenized in a thread, so that others go on


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How much waits, how much goes at once."""

    queue_rows: int
    batch_tokens: int
    runs: int


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One waiting row. It holds its adapter version: a swap never changes a row under way."""

    row: TextRow
    adapter: Adapter
    top_k: int
    arrived: float
    answer: asyncio.Future[Answer]


def _stopped() -> Overloaded:
    return Overloaded("the server is stopping")


class Engine:
    """One backbone with its queue. All methods belong to the event loop that called `start`."""

    def __init__(self, backbone: Backbone, limits: EngineLimits, metrics: Metrics) -> None:
        self.backbone = backbone
        self._limits = limits
        self._metrics = metrics
        self._queue: deque[Entry] = deque()
        self._arrival = asyncio.Event()
        self._pool = ThreadPoolExecutor(limits.runs, thread_name_prefix=f"run-{backbone.name}")
        # Texts have threads of their own: they wait for no run, and for nothing of the registry's.
        self._texts = ThreadPoolExecutor(limits.runs, thread_name_prefix=f"text-{backbone.name}")
        self._workers: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Begin to serve."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._limits.runs)]

    async def stop(self) -> None:
        """Stop: batches under way are answered, rows that wait are refused as `Overloaded`."""
        self._stopping = True
        self._arrival.set()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self._texts.shutdown)
        for entry in self._queue:
            if not entry.answer.done():
                entry.answer.set_exception(_stopped())
        self._queue.clear()

    async def preprocess(self, texts: Sequence[str], with_spans: bool = False) -> list[TextRow]:
        """Rows of `texts`, with spans for an adapter that tags; much text goes to a thread."""
        if sum(map(len, texts)) <= _INLINE_CHARS:
            return self._rows(texts, with_spans)
        if self._stopping:
            raise _stopped()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._texts, self._rows, texts, with_spans)

    def _rows(self, texts: Sequence[str], with_spans: bool) -> list[TextRow]:
        return [self.backbone.preprocess(text, with_spans) for text in texts]

    async def answer(self, rows: Sequence[TextRow], adapter: Adapter, top_k: int) -> list[Answer]:
        """The answer to each row, all by this one adapter version.

        Raises:
            Overloaded: the queue has no room for the rows, or the engine stops.
            HeadFailed, BackboneError: a row failed; rows of other requests are not concerned.
        """
        if self._stopping:
            raise _stopped()
        if len(self._queue) + len(rows) > self._limits.queue_rows:
            raise Overloaded(f"{len(self._queue)} rows wait already; try again in a moment")
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        entries = [Entry(row, adapter, top_k, now, loop.create_future()) for row in rows]
        self._queue.extend(entries)
        self._show_queue()
        self._arrival.set()
        try:
            return await asyncio.gather(*(entry.answer for entry in entries))
        finally:
            for entry in entries:
                entry.answer.cancel()  # where the caller left, or a sibling failed: no compute

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrival.wait()
            if self._stopping:
                return
            batch = self._take()
            if not batch:
                self._arrival.clear()
                continue
            outcomes = await loop.run_in_executor(self._pool, self._compute, batch)
            for entry, outcome in zip(batch, outcomes, strict=True):
                self._deliver(entry, outcome)

    def _take(self) -> list[Entry]:
        """Remove the next batch from the queue; rows that nobody waits for are dropped."""
        while self._queue and self._queue[0].answer.done():
            self._queue.popleft()
        window = [entry for entry in islice(self._queue, WINDOW) if not entry.answer.done()]
        chosen = next_batch([entry.row.length for entry in window], self._limits.batch_tokens)
        batch = [window[position] for position in chosen]
        taken = set(map(id, batch))
        kept = [entry for entry in window if id(entry) not in taken]
        for _ in range(min(WINDOW, len(self._queue))):
            self._queue.popleft()
        self._queue.extendleft(reversed(kept))
        self._show_queue()
        return batch

    def _compute(self, batch: Sequence[Entry]) -> list[Answer | Exception]:
        """Backbone and heads of one batch, in a thread. Never raises: each row has its outcome."""
        started = time.perf_counter()
        try:
            wanted = {entry.adapter.manifest.feature for entry in batch}
            features = self.backbone.run([entry.row for entry in batch], wanted)
        except Exception as error:
            if len(batch) == 1:
                return [error]
            # One row may have broken the run: each gets a run of its own.
            return [self._compute([entry])[0] for entry in batch]
        self._observe(batch, started)
        outcomes: list[Answer | Exception] = []
        for position, entry in enumerate(batch):
            try:
                feature = features[entry.adapter.manifest.feature][position]
                if entry.adapter.per_token:
                    assert entry.row.spans is not None, "rows for a tagger come with spans"
                    feature = feature[entry.row.spans.positions]
                outcomes.append(entry.adapter.answer(feature, entry.top_k))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    def _deliver(self, entry: Entry, outcome: Answer | Exception) -> None:
        if entry.answer.done():  # the caller has left
            return
        if isinstance(outcome, Exception):
            self._metrics.failed_rows.labels(self.backbone.name).inc()
            entry.answer.set_exception(outcome)
        else:
            entry.answer.set_result(outcome)

    def _observe(self, batch: Sequence[Entry], started: float) -> None:
        metrics, name = self._metrics, self.backbone.name
        lengths = [entry.row.length for entry in batch]
        metrics.backbone_seconds.labels(name).observe(time.perf_counter() - started)
        metrics.batch_rows.labels(name).observe(len(batch))
        metrics.batch_adapters.labels(name).observe(len({id(entry.adapter) for entry in batch}))
        metrics.batch_tokens.labels(name, "text").inc(sum(lengths))
        metrics.batch_tokens.labels(name, "padded").inc(max(lengths) * len(lengths))
        wait = metrics.queue_seconds.labels(name)
        for entry in batch:
            wait.observe(started - entry.arrived)

    def _show_queue(self) -> None:
        self._metrics.queue_rows.labels(self.backbone.name).set(len(self._queue))
