"""A loud neighbour, and ten times more than the server can do."""

import statistics
from dataclasses import dataclass, replace

from benchmarks.common import Figure
from benchmarks.engine.stage import Stage, ratio
from benchmarks.engine.throughput import Capacity
from benchmarks.job import Outcome, Stream, pooled

_TIMES = 100  # the neighbour's rate in the victim's
_SHARE = 0.6  # of the capacity that the neighbour takes
_VICTIM_SECONDS = 8  # in paces: few requests a second must come to enough for a percentile
_OVERLOAD = 10


def measure(stage: Stage, _: Capacity) -> list[Figure]:
    """Figures of fairness and of overload."""
    return [*_neighbour(stage), *_overload(stage)]


def _neighbour(stage: Stage) -> list[Figure]:
    """Rounds alone and beside the neighbour alternate; percentiles are over all rounds."""
    quiet = Stream(stage.large[:1], stage.texts.plain)
    loud = Stream(stage.large[1:2], stage.texts.plain, seed=1)
    endless = stage.singles(stage.large[1:2])
    seconds = _VICTIM_SECONDS * stage.pace.seconds
    rates, alone, beside, below = [], [], [], []
    for number in range(stage.pace.rounds):
        stage.say("a victim alone, beside a neighbour, beside one that saturates")
        rate = _SHARE * stage.speed(stage.singles()) / _TIMES
        rates.append(rate)
        victim = replace(quiet, rate=rate, seed=2 + number)
        alone.append(stage.load(victim, seconds=seconds)[0])
        neighbour = replace(loud, rate=_TIMES * rate)
        beside.append(stage.load(victim, neighbour, seconds=seconds)[0])
        below.append(stage.load(victim, endless, seconds=seconds / 2)[0])
    base = pooled(alone)
    what = f"a tenant with {statistics.mean(rates):.1f} single texts/s: p99"
    return [
        Figure(f"{what} alone", _times(base)),
        _against(f"{what} beside a neighbour with {_TIMES} times its rate ÷ alone", beside, base),
        _against(f"{what} beside a neighbour that saturates ÷ alone", below, base, ""),
    ]


def _against(what: str, outcomes: list[Outcome], alone: Outcome, target: str = "2") -> Figure:
    beside = pooled(outcomes)
    times = beside.percentile_ms(99) / alone.percentile_ms(99)
    return Figure(what, f"{times:.2f} ({_times(beside)})", target)


def _times(outcome: Outcome) -> str:
    refused = f", {outcome.refused} refused" if outcome.refused else ""
    failed = f", {outcome.failed} failed" if outcome.failed else ""
    return f"{outcome.percentile_ms(99):.1f} ms of {len(outcome.latencies_ms)}{refused}{failed}"


def _overload(stage: Stage) -> list[Figure]:
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
