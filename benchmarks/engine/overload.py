"""Ten times more requests than the server can answer."""

from dataclasses import dataclass, replace

from benchmarks.common import Figure
from benchmarks.engine.stage import Stage, ratio
from benchmarks.engine.throughput import Capacity
from benchmarks.job import Outcome, Stream, pooled

_OVERLOAD = 10


def measure(stage: Stage, _: Capacity) -> list[Figure]:
    """Figures of overload."""
    bulk = _flooded(stage, stage.bulk(), stage.pace.rounds)
    singles = _flooded(stage, stage.singles(), 1)
    return [
        _goodput("requests of 32", bulk, "0.90"),
        _refusals(bulk),
        _goodput("single texts", singles),
        _refusals(singles),
    ]


@dataclass(frozen=True, slots=True)
class _Flooded:
    """Rows a second at the peak and the outcome of a flood, round by round."""

    peaks: list[float]
    floods: list[Outcome]


def _flooded(stage: Stage, stream: Stream, rounds: int) -> _Flooded:
    done = _Flooded([], [])
    for _ in range(rounds):
        stage.say(f"{_OVERLOAD} times the capacity, requests of {stream.rows}")
        peak = stage.speed(stream)
        flood = replace(stream, rate=_OVERLOAD * peak / stream.rows)
        done.peaks.append(peak)
        done.floods.extend(stage.load(flood, seconds=2 * stage.pace.seconds))
    return done


def _goodput(what: str, flooded: _Flooded, target: str = "") -> Figure:
    what = f"goodput at {_OVERLOAD} times the capacity ÷ peak, {what}"
    goodput = [each.rows_per_s for each in flooded.floods]
    return ratio(what, goodput, flooded.peaks, target, "rows/s")


def _refusals(flooded: _Flooded) -> Figure:
    outcome = pooled(flooded.floods)
    sent = sum(outcome.statuses.values()) + outcome.unanswered
    unsent = f"; {outcome.unsent:,} not sent" if outcome.unsent else ""
    # The generator takes its part of the same cores, which no server can win back.
    cost = f"; {outcome.cores:.2f} cores to send and receive"
    return Figure(
        f"of {sent:,} requests refused, with Retry-After; neither answered nor refused",
        f"{outcome.refused:,}, {outcome.refused_with_retry_after:,}; {outcome.failed:,}"
        f"{unsent}{cost}",
        "all; 0",
    )
