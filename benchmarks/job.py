"""What a load generator is asked to do and what it answers; both cross a pipe as JSON."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Self

import numpy as np

_PATIENCE_S = 120.0  # over the length of the job


@dataclass(frozen=True, slots=True)
class Target:
    """An adapter with a key that may ask it."""

    tenant: str
    adapter: str
    key: str


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one kind. With a `rate` [requests/s] an open loop, else a closed one.

    Texts are taken in turn; targets too, or drawn by `weights`, their shares.
    """

    targets: Sequence[Target]
    texts: Sequence[str]
    rows: int = 1
    rate: float | None = None
    clients: int = 1
    weights: Sequence[float] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """Streams that run at once against one server; the first `warmup_s` are not counted."""

    host: str
    port: int
    streams: Sequence[Stream]
    seconds: float
    warmup_s: float = 1.0

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The job that `to_json` wrote."""
        content = json.loads(text)
        streams = []
        for each in content.pop("streams"):
            targets = [Target(*target) for target in each.pop("targets")]
            streams.append(Stream(targets=targets, **each))
        return cls(streams=streams, **content)

    def to_json(self) -> str:
        """The job for a pipe."""
        content = asdict(self)
        for stream in content["streams"]:
            stream["targets"] = [list(target.values()) for target in stream["targets"]]
        return json.dumps(content)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one stream.

    Latencies are those of status 200, from the moment at which a request was meant to be sent: a
    server that holds everyone up is charged for all who would have come meanwhile. `late_ms` is
    how much of that was the generator's own lateness, at its 99th percentile.
    """

    seconds: float
    rows: (
        float  # of answers with status 200 within the time; of a closed loop's at its ends, a part
    )
    statuses: dict[str, int]
    refused: int  # 429 and 503
    refused_with_retry_after: int
    unanswered: int
    unsent: int  # the generator had no connection left for them
    latencies_ms: Sequence[float]
    late_ms: float
    cpu_us: float  # of the generator, a request
    cores: float  # that the generator took

    @property
    def rows_per_s(self) -> float:
        """Rows answered with status 200 in a second: the goodput."""
        return self.rows / self.seconds

    @property
    def failed(self) -> int:
        """Requests that were neither answered nor refused in order."""
        answered = self.statuses.get("200", 0) + self.refused
        return sum(self.statuses.values()) - answered + self.unanswered

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the latencies, ms; NaN where nothing was answered."""
        return percentile(self.latencies_ms, percent)


def percentile(values: Sequence[float], percent: float) -> float:
    """A percentile; NaN of nothing."""
    return float(np.percentile(values, percent)) if len(values) else float("nan")


def pooled(outcomes: Sequence[Outcome]) -> Outcome:
    """Several rounds as if they were one."""
    statuses: Counter[str] = Counter()
    for each in outcomes:
        statuses.update(each.statuses)
    return Outcome(
        seconds=sum(each.seconds for each in outcomes),
        rows=sum(each.rows for each in outcomes),
        statuses=dict(statuses),
        refused=sum(each.refused for each in outcomes),
        refused_with_retry_after=sum(each.refused_with_retry_after for each in outcomes),
        unanswered=sum(each.unanswered for each in outcomes),
        unsent=sum(each.unsent for each in outcomes),
        latencies_ms=[value for each in outcomes for value in each.latencies_ms],
        late_ms=max(each.late_ms for each in outcomes),
        cpu_us=float(np.mean([each.cpu_us for each in outcomes])),
        cores=float(np.mean([each.cores for each in outcomes])),
    )


def run(job: Job) -> list[Outcome]:
    """Run a job in a process of its own; one outcome a stream."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=job.to_json(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_PATIENCE_S + job.warmup_s + job.seconds,
    )
    return [Outcome(**each) for each in json.loads(done.stdout)]
