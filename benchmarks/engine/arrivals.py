"""Latency of single texts that come at random moments, by how much of the capacity they take."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import bare
from benchmarks.common import Figure
from benchmarks.engine.stage import Stage
from benchmarks.engine.throughput import Capacity
from benchmarks.job import Stream

SHARES = (0.1, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0)
_REPORTED = (0.1, 0.5, 0.8)
_ENOUGH = 600  # requests, for a percentile


@dataclass(frozen=True, slots=True)
class Point:
    """Latencies at one offered load."""

    share: float
    rate: float  # offered, requests/s
    p50_ms: float
    p99_ms: float
    late_ms: float
    cpu_us: float
    failed: int
    bare_ms: float | None  # the bare session's median for single rows at as many random moments


def curve(stage: Stage) -> list[Point]:
    """A point for each share of the capacity, measured anew: a machine has its slower minutes."""
    capacity = statistics.median(stage.speed(stage.singles()) for _ in range(stage.pace.rounds))
    return [_point(stage, capacity, share) for share in SHARES]


def _point(stage: Stage, capacity: float, share: float) -> Point:
    stage.say(f"latency at {share:.0%} of the capacity")
    rate = share * capacity
    seconds = max(1.5 * stage.pace.seconds, min(3 * stage.pace.seconds, _ENOUGH / rate))
    stream = Stream(stage.large, stage.texts.plain, rate=rate)
    (outcome,) = stage.load(stream, seconds=seconds)
    return Point(
        share,
        rate,
        outcome.percentile_ms(50),
        outcome.percentile_ms(99),
        outcome.late_ms,
        outcome.cpu_us,
        outcome.failed + outcome.refused,
        _bare_ms(stage, rate, seconds) if share == SHARES[0] else None,
    )


def _bare_ms(stage: Stage, rate: float, seconds: float) -> float:
    return bare.single_ms(stage.folder, stage.texts.plain, seconds, rate)


def figures(capacity: Capacity, points: Sequence[Point]) -> list[Figure]:
    """The lines of the table."""
    limit = _limit(capacity.row_ms)
    lines = [
        Figure(
            "one text alone in the bare session, one after the other, median",
            f"{capacity.row_ms:.1f} ms",
        )
    ]
    for point in points:
        if point.share in _REPORTED:
            of = f"of the capacity of {point.rate / point.share:,.0f}/s"
            what = f"single texts at {point.share:.0%} {of}"
            failed = f", {point.failed} refused or failed" if point.failed else ""
            value = f"p50 {point.p50_ms:.1f} ms, p99 {point.p99_ms:.1f} ms{failed}"
            target = f"p50 {limit:.1f} ms (1.5 x the bare session's + 2)"
            lines.append(Figure(what, value, target if point.share == SHARES[0] else ""))
        if point.bare_ms is not None:
            what = f"one text in the bare session at {point.rate:,.0f} random moments/s, median"
            value = f"{point.bare_ms:.1f} ms (1.5 x this + 2: {_limit(point.bare_ms):.1f} ms)"
            lines.append(Figure(what, value))
    late, cpu = max(each.late_ms for each in points), max(each.cpu_us for each in points)
    generator = f"{late:.1f} ms late at the most (p99), {cpu:.0f} µs of CPU a request"
    return [*lines, Figure("the load generator itself", generator)]


def _limit(row_ms: float) -> float:
    """What a single text may take where little is asked, ms."""
    return 1.5 * row_ms + 2
