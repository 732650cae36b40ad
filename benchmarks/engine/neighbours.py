"""A tenant with few requests, alone and beside a neighbour that saturates the server."""

import statistics
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.common import Figure
from benchmarks.engine.stage import FULL, Stage
from benchmarks.engine.throughput import Capacity
from benchmarks.job import Outcome, Stream, pooled

_SHARE = 1 / 20  # of what the server can do, that the light tenant asks for
_REQUESTS = 2_100  # of the light tenant on each side, in all rounds of the full pace
_TURNS = 2  # in each round of the pace, so that slow seconds hit both sides


def bulk(stage: Stage, capacity: Capacity) -> list[Figure]:
    """Figures beside a neighbour whose 8 clients send requests of 32."""
    return _beside(stage, capacity, "requests of 32", stage.bulk(stage.large[1:2]))


def singles(stage: Stage, capacity: Capacity) -> list[Figure]:
    """Figures beside a neighbour whose 64 clients send single texts."""
    return _beside(stage, capacity, "single texts", stage.singles(stage.large[1:2]))


def _beside(stage: Stage, capacity: Capacity, name: str, neighbour: Stream) -> list[Figure]:
    """Each side has its turn in every round; percentiles are over all rounds."""
    rate = _SHARE * capacity.bulk
    light = Stream(stage.large[:1], stage.texts.plain, rate=rate)
    seconds = _REQUESTS / rate / (_TURNS * FULL.rounds)
    alone: list[Outcome] = []
    beside: list[Outcome] = []
    kept: list[float] = []
    for number in range(_TURNS * stage.pace.rounds):
        stage.say(f"a light tenant alone and beside a neighbour that saturates in {name}")
        stream = replace(light, seed=number)
        alone += stage.load(stream, seconds=seconds)
        both = stage.load(stream, neighbour, seconds=seconds)
        beside.append(both[0])
        one = stage.load(replace(stream, targets=neighbour.targets), neighbour, seconds=seconds)
        kept.append(_rows_per_s(both) / _rows_per_s(one))
    base, found = pooled(alone), pooled(beside)
    times = found.percentile_ms(99) / base.percentile_ms(99)
    rows = f"{statistics.median(kept):.2f} [{min(kept):.2f}, {max(kept):.2f}]"
    what = f"a tenant with {rate:.0f} single texts/s beside a neighbour that saturates in {name}"
    return [
        Figure(f"{what}: p99 ÷ alone", f"{times:.2f} ({_shown(found)}; {_shown(base)})", "2"),
        Figure(f"{what}: rows/s ÷ those of the same load by one tenant", rows, "0.97"),
    ]


def _rows_per_s(outcomes: Sequence[Outcome]) -> float:
    return sum(outcome.rows_per_s for outcome in outcomes)


def _shown(outcome: Outcome) -> str:
    latencies = ", ".join(f"p{at} {outcome.percentile_ms(at):.1f} ms" for at in (50, 99))
    refused = f", {outcome.refused} refused" if outcome.refused else ""
    failed = f", {outcome.failed} failed" if outcome.failed else ""
    return f"{latencies} of {len(outcome.latencies_ms):,}{refused}{failed}"
