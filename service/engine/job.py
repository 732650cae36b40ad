"""What waits in an engine: jobs, their rows, and what comes of a row."""

import asyncio
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import Adapter
from adapters.answers import Answer, Embedded
from adapters.lora import Lora
from adapters.registry import CacheMode
from backbone import TextRow
from service.engine.batching import rank_factor

Answers = tuple[Answer, ...]  # of one row, one an adapter, or its feature alone
Vectors = Mapping[str, NDArray[np.float32]]  # of one row: each feature, without padding


# A head reads so much of its weights in the time that a small backbone takes for a token.
_BYTES_A_TOKEN = 200_000


class Abandoned(Exception):
    """Nobody waits for this row any more."""


def _off() -> CacheMode:
    return "off"


@dataclass(slots=True)
class Times:
    """How long the rows of a request waited for the backbone, and how long they took from there.

    `prepare_s` is what it took to make them of texts. `runs` has a number for each job: of the
    batches in which its rows went through the backbone.
    """

    prepare_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    runs: list[int] = field(default_factory=list)

    def told(self) -> dict[str, float]:
        """For the log, in milliseconds; nothing of rows that were not let in."""
        if not self.queue_s and not self.compute_s:
            return {}
        return {
            "queue_ms": round(1000 * self.queue_s, 3),
            "compute_ms": round(1000 * self.compute_s, 3),
        }


@dataclass(frozen=True, slots=True)
class Job:
    """What to do with the rows of one request: each is answered by all of `adapters`.

    With `embeds` the answer is the feature of that name itself, through the adapters' LoRA if there
    are any. The adapters share one LoRA or have none, so that one pass of the backbone serves them
    all. They are held here: a swap never changes a row under way. `deadline` is a `perf_counter`
    time. `cache_mode` is asked when features are looked up and again when they are kept: a tenant
    may consent to something else meanwhile.
    """

    tenant: str
    adapters: tuple[Adapter, ...]
    top_k: int = 1
    deadline: float | None = None
    cache_mode: Callable[[], CacheMode] = _off
    embeds: str | None = None
    lora: Lora | None = field(init=False)
    features: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lora", self.adapters[0].lora if self.adapters else None)
        features = {adapter.manifest.feature for adapter in self.adapters}
        object.__setattr__(self, "features", frozenset({self.embeds} if self.embeds else features))

    @property
    def head_bytes(self) -> int:
        """What heads cost: they read their weights once a row."""
        if self.embeds:
            return 0
        return sum(adapter.size for adapter in self.adapters)

    def cost(self, rows: int, tokens: int) -> int:
        """What a tenant is charged for rows with so many tokens in all, in tokens."""
        heads = self.head_bytes // _BYTES_A_TOKEN
        return tokens * rank_factor(self.lora.rank if self.lora else 0) + rows * heads

    def answer(self, row: TextRow, vectors: Vectors, is_over: Callable[[], bool]) -> Answers:
        """What the adapters say to one row; it stops where `is_over`. Raises HeadFailed."""
        if self.embeds:
            return (Embedded(vectors[self.embeds]),)
        answers: list[Answer] = []
        for adapter in self.adapters:
            if is_over():
                raise Abandoned
            vector = vectors[adapter.manifest.feature]
            if adapter.per_token:  # those that stand for characters
                assert row.spans is not None, "rows for adapters that tag come with spans"
                vector = vector[row.spans.positions]
            answers.append(adapter.answer(vector, self.top_k))
        return tuple(answers)


class Pending:
    """A job under way: the answers so far, and the future that its caller waits for."""

    def __init__(self, job: Job, arrived: float, done: asyncio.Future[None], n_rows: int) -> None:
        self.job = job
        self.arrived = arrived
        self.done = done
        self.answers: list[Answers | None] = [None] * n_rows
        self.missing = n_rows
        self.has_failed = False  # set in a worker's thread, before the loop hears of it
        self.cache_mode = job.cache_mode()  # what the tenant consented to when it sent the rows
        # When each batch with rows of it went into the backbone; added to in workers' threads.
        self.runs: list[float] = []

    def count_down(self, answered: int) -> None:
        """So many rows more are answered; on the event loop."""
        self.missing -= answered
        if not self.missing and not self.done.done():
            self.done.set_result(None)

    @property
    def begun(self) -> float | None:
        """When its first row went into the backbone."""
        return self.runs[0] if self.runs else None

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for its rows any more: it was answered, has failed, or was left."""
        return self.has_failed or self.done.done()

    def is_late(self, now: float) -> bool:
        """Whether its time is over, and it has not been told so."""
        deadline = self.job.deadline
        return deadline is not None and deadline < now and not self.is_over

    def is_in_vain(self) -> bool:
        """Whether no answer can be used any more, or not in time."""
        return self.is_over or self.is_late(time.perf_counter())

    def complete(self) -> list[Answers]:
        """All answers, when none is missing."""
        return [answers for answers in self.answers if answers is not None]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One waiting row of a job. What the queue looks at is kept flat: it looks often."""

    row: TextRow
    position: int
    pending: Pending
    tenant: str
    length: int
    lora: str | None
    rank: int
    cost: int  # what the tenant is charged, in tokens


def make_entries(pending: Pending, rows: Sequence[TextRow], known: Container[int]) -> list[Entry]:
    """An entry for each row of a job but for those whose features are known, by position."""
    tenant, lora = pending.job.tenant, pending.job.lora
    digest, rank = (lora.digest, lora.rank) if lora else (None, 0)
    heads, each = pending.job.cost(1, 0), rank_factor(rank)
    return [
        Entry(row, position, pending, tenant, row.length, digest, rank, row.length * each + heads)
        for position, row in enumerate(rows)
        if position not in known
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of a row: answers with the features that gave them, or why there are none."""

    entry: Entry
    result: tuple[Answers, Vectors] | Exception

    @classmethod
    def failure(cls, entry: Entry, error: Exception) -> Self:
        """A row failed: what else waits of its job is not worth computing."""
        entry.pending.has_failed = True
        return cls(entry, error)
