"""One backbone's engine: rows are admitted, wait for their turn, are computed, and answered.

Who may wait is decided in `admission.py`, who is next in `fair_queue.py`, what goes together in
`batching.py`; the threads of `workers.py` carry it out. Here is what the event loop does.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from adapters.errors import DeadlineExceeded, Overloaded, TenantOverloaded, TooLarge
from adapters.registry import CacheMode
from backbone import MAX_RANK, Backbone, TextRow
from service.engine.admission import (
    Load,
    Queue,
    Refused,
    Waiting,
    admit,
    find_excess,
    is_roomy,
)
from service.engine.batching import BatchLimits
from service.engine.feature_cache import FeatureCache
from service.engine.guess import LEAST
from service.engine.job import (
    Abandoned,
    Answers,
    Entry,
    Job,
    Outcome,
    Pending,
    Times,
    Vectors,
    make_entries,
)
from service.engine.priority import give_way
from service.engine.slots import LoraSlots
from service.engine.workers import Workers
from service.metrics import EngineMetrics

logger = logging.getLogger(__name__)
_INLINE_CHARS = 4_000  # more than this (2 ms of work) is tokenized in a thread
_TEXT_CHARS = 20  # what a text costs beside its characters
_MOST_CHARS = 64 * 2**20  # to be tokenized; a tenant has as much as is left free


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How much waits, how much goes at once; `tokens_per_s` is reckoned with at first.

    `request_s` is the time that any request has at most.
    """

    queue_rows: int
    longest_wait_s: float
    request_s: float
    batch_tokens: int
    runs: int
    lora_ranks: int
    tokens_per_s: float


def _stopped() -> Overloaded:
    return Overloaded("the server is stopping")


class Engine:
    """One backbone with its queue. Public methods belong to the event loop that called `start`."""

    def __init__(
        self, backbone: Backbone, limits: EngineLimits, metrics: EngineMetrics, cache: FeatureCache
    ) -> None:
        self.backbone = backbone
        self._limits = limits
        self._metrics = metrics
        self._cache = cache
        # So many ranks that every batch finds its place in the pool: the runs, one more where much
        # waits, one that passes.
        batches = limits.runs + 2
        pool_ranks = max(limits.lora_ranks, MAX_RANK * batches)
        slots = None
        if backbone.manifest.lora:
            slots = LoraSlots(backbone.lora_pool(pool_ranks), metrics)
        self._workers = Workers(
            backbone,
            limits.runs,
            BatchLimits(limits.batch_tokens, pool_ranks // batches),
            slots,
            limits.tokens_per_s,
            metrics,
        )
        self._queue = self._workers.queue
        metrics.queue_rows.set_function(self._queue.__len__)
        self._stopping = False
        self._reading: Counter[str] = Counter()  # characters that threads make rows of, by tenant
        # Threads of their own: they wait for no run, and for nothing of the registry's.
        self._texts = ThreadPoolExecutor(limits.runs, f"text-{backbone.name}", give_way)
        self._heads = ThreadPoolExecutor(1, f"heads-{backbone.name}", give_way)

    def start(self) -> None:
        """Begin to serve."""
        self._workers.start(asyncio.get_running_loop(), self._deliver)

    async def stop(self) -> None:
        """Stop: batches under way are answered, rows that wait are refused as `Overloaded`."""
        self._stopping = True
        waiting = self._workers.stop()
        await self._workers.join()
        await asyncio.to_thread(self._texts.shutdown)
        await asyncio.to_thread(self._heads.shutdown)
        self._deliver([Outcome(entry, _stopped()) for entry in waiting])
        await asyncio.sleep(0)  # what the workers handed over last comes before this returns

    async def preprocess(
        self, texts: Sequence[str], with_spans: bool, tenant: str, prompt: str | None = None
    ) -> list[TextRow]:
        """Rows of `texts`, with spans where an adapter tags; much text goes to a thread.

        `prompt` stands in place of the backbone's own.

        Raises:
            TenantOverloaded, Overloaded: too much text is being read already, or the engine stops.
        """
        cost = sum(map(len, texts)) + _TEXT_CHARS * len(texts)
        if cost <= _INLINE_CHARS:
            if len(texts) == 1:
                return [self.backbone.preprocess(texts[0], with_spans, True, prompt)]
            return self.backbone.preprocess_all(texts, with_spans, prompt)
        if self._stopping:
            raise _stopped()
        free = _MOST_CHARS - sum(self._reading.values()) - cost
        if self._reading[tenant] and self._reading[tenant] + cost > free:
            raise TenantOverloaded(f"{self._reading[tenant]} characters of this tenant are waiting")
        self._reading[tenant] += cost
        loop, is_left = asyncio.get_running_loop(), threading.Event()

        def read() -> list[TextRow]:
            rows: list[TextRow] = []
            for part in _parts(texts):
                if is_left.is_set():
                    break
                rows += self.backbone.preprocess_all(part, with_spans, prompt)
            return rows

        def end(_: object) -> None:
            loop.call_soon_threadsafe(self._end_reading, tenant, cost)

        work = self._texts.submit(read)
        work.add_done_callback(end)
        try:
            return await asyncio.wrap_future(work)
        finally:
            is_left.set()

    def _end_reading(self, tenant: str, cost: int) -> None:
        self._reading[tenant] -= cost
        if not self._reading[tenant]:
            del self._reading[tenant]

    def check_room(self, tenant: str, guess: Load, cache_mode: CacheMode) -> None:
        """Refuse at once what could not wait, before work is done for it. Raises as `answer`.

        On a guess nobody is refused who has nothing waiting, or whose features may be known: rows
        of these need no room.
        """
        is_known = self._cache.enabled and cache_mode != "off"
        if is_known or not self._queue.held_by(tenant)[0]:
            guess = LEAST
        # Without the lock, which a worker may hold: `answer` looks again.
        self._admit(tenant, guess, deadline=None)

    async def answer(
        self, rows: Sequence[TextRow], *jobs: Job, times: Times | None = None
    ) -> list[list[Answers]]:
        """For each job, for each row, the answers of the job's adapters.

        The jobs are of one request, and admitted as one. What time they took is added to `times`.

        Raises:
            TenantOverloaded, Overloaded: the rows cannot wait, or not as long as they would have
                to, or the engine stops.
            TooLarge: they would take longer than any request may, with nobody else there.
            DeadlineExceeded: the request's time is over, or is less than the rows alone take.
            HeadFailed, BackboneError: a row failed; rows of other requests are not concerned.
        """
        arrived, loop = time.perf_counter(), asyncio.get_running_loop()
        pendings = [Pending(job, arrived, loop.create_future(), len(rows)) for job in jobs]
        known = [self._recall(rows, pending) for pending in pendings]
        entries = [
            entry
            for pending, found in zip(pendings, known, strict=True)
            for entry in make_entries(pending, rows, found)
        ]
        places = self._enqueue(jobs[0], entries) if entries else []
        try:
            for pending, found in zip(pendings, known, strict=True):
                if found:
                    await loop.run_in_executor(self._heads, _answer_known, pending, rows, found)
                    pending.count_down(len(found))
            for pending in pendings:
                await pending.done
        except Abandoned:
            raise DeadlineExceeded("the time given was over before the rows were done") from None
        finally:
            self._forget(pendings, places)
            if times is not None:
                _keep_time(times, pendings, has_waited=bool(entries))
        self._metrics.truncated_inputs.inc(sum(row.truncated for row in rows))
        return [pending.complete() for pending in pendings]

    def _enqueue(self, job: Job, entries: Sequence[Entry]) -> Sequence[int]:
        load = Load(len(entries), sum(entry.cost for entry in entries))
        with self._workers.changed:
            self._admit(job.tenant, load, job.deadline)
            places = self._queue.add(entries)
            self._workers.notify()
        return places

    def _forget(self, pendings: Sequence[Pending], places: Sequence[int]) -> None:
        """Where the caller left or a row failed, compute no more in vain."""
        if not any(pending.missing for pending in pendings):
            return
        for pending in pendings:
            if pending.done.done() and not pending.done.cancelled():
                pending.done.exception()  # another one was raised
            pending.done.cancel()
        with self._workers.changed:
            self._queue.remove(places)

    def _admit(self, tenant: str, load: Load, deadline: float | None) -> None:
        """Raise unless there is room."""
        if self._stopping:
            raise _stopped()
        time_left = None if deadline is None else deadline - time.perf_counter()
        if time_left is not None and time_left <= 0:
            raise DeadlineExceeded("the time given is over")
        waiting = Waiting(
            all=Load(len(self._queue), self._queue.tokens),
            own=Load(*self._queue.held_by(tenant)),
            tenants=self._queue.tenants,
        )
        limits = self._limits
        bounds = Queue(limits.queue_rows, limits.longest_wait_s, self._workers.speed.tokens_per_s)
        if time_left is not None:
            fastest = self._workers.speed.upper_bound
            _refuse_endless(load, fastest, time_left, limits.request_s)
        if is_roomy(load, waiting, bounds, time_left):
            return
        verdict = admit(load, waiting, bounds, time_left, Load(*self._queue.largest_but(tenant)))
        if isinstance(verdict, Refused):
            kind = TenantOverloaded if verdict.kind == "tenant" else Overloaded
            raise kind(verdict.detail, verdict.retry_after_s)

    def _deliver(self, outcomes: Sequence[Outcome]) -> None:
        """Hand over what came of rows; on the event loop."""
        for outcome in outcomes:
            pending, result = outcome.entry.pending, outcome.result
            if pending.done.done():  # the caller has left, or a sibling failed
                continue
            if not isinstance(result, Exception):
                pending.answers[outcome.entry.position] = result[0]
                pending.count_down(1)
                continue
            pending.done.set_exception(result)
            if not isinstance(result, (Overloaded, DeadlineExceeded)):
                self._metrics.failed_rows.inc()
        if self._cache.enabled:
            try:
                self._keep(outcomes)
            except Exception:  # the rows are answered; a cache may forget
                logger.exception("features of backbone %s were not cached", self.backbone.name)

    def _recall(self, rows: Sequence[TextRow], pending: Pending) -> dict[int, Vectors]:
        """The rows whose features the cache has, all of them, if it may be asked."""
        job, mode = pending.job, pending.cache_mode
        if not self._cache.enabled or mode == "off":
            return {}
        known: dict[int, Vectors] = {}
        for position, row in enumerate(rows):
            found = {
                name: self._cache.get(*self._key(row, job, mode, name)) for name in job.features
            }
            vectors = {name: value for name, value in found.items() if value is not None}
            if len(vectors) == len(found):
                known[position] = vectors
        return known

    def _keep(self, outcomes: Sequence[Outcome]) -> None:
        """Let the cache have features of tenants that consent, and did so when they asked.

        What was sent under `own` is not shared because the tenant began to share meanwhile.
        """
        for outcome in outcomes:
            job, mode = outcome.entry.pending.job, outcome.entry.pending.cache_mode
            if isinstance(outcome.result, Exception) or mode == "off" or mode != job.cache_mode():
                continue
            for name, value in outcome.result[1].items():
                self._cache.put(*self._key(outcome.entry.row, job, mode, name), value)

    def _key(
        self, row: TextRow, job: Job, mode: CacheMode, feature: str
    ) -> tuple[str | None, str, str | None, str, bytes]:
        scope = job.tenant if mode == "own" else None
        lora = job.lora.digest if job.lora else None
        return scope, self.backbone.digest, lora, feature, row.ids.tobytes()


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut texts into runs of about `_INLINE_CHARS` characters, of one text at least."""
    start, chars = 0, 0
    for end, text in enumerate(texts, 1):
        chars += len(text) + _TEXT_CHARS
        if chars >= _INLINE_CHARS:
            yield texts[start:end]
            start, chars = end, 0
    if start < len(texts):
        yield texts[start:]


def _refuse_endless(load: Load, tokens_per_s: float, time_left_s: float, request_s: float) -> None:
    """Raise TooLarge or DeadlineExceeded for what could not be done in time by itself.

    To try it again would be in vain, so it is not refused as an overload.
    """
    excess = find_excess(load, tokens_per_s, request_s)
    if excess is not None:
        raise TooLarge(excess)
    excess = find_excess(load, tokens_per_s, time_left_s)
    if excess is not None:
        raise DeadlineExceeded(f"{excess}, or allow more time")


def _keep_time(times: Times, pendings: Sequence[Pending], has_waited: bool) -> None:
    """Where the time of a request's jobs went; those whose features were known waited for none."""
    now, arrived = time.perf_counter(), pendings[0].arrived
    begun = min(
        (each.begun for each in pendings if each.begun is not None),
        default=now if has_waited else arrived,
    )
    times.queue_s += begun - arrived
    times.compute_s += now - begun
    times.runs += [len(each.runs) for each in pendings]


def _answer_known(pending: Pending, rows: Sequence[TextRow], known: Mapping[int, Vectors]) -> None:
    """Answer rows from features that are there already; in a thread, since heads may be slow."""
    for position, vectors in known.items():
        answers = pending.job.answer(rows[position], vectors, pending.is_in_vain)
        pending.answers[position] = answers
