"""Served against the bare session; int8 against fp32; what padding wastes."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bare
from benchmarks.common import Figure, folder_of
from benchmarks.engine.stage import (
    LARGE,
    N_LARGE,
    NO_CACHE,
    Stage,
    heads,
    in_turn,
    ratio,
    serving,
)
from benchmarks.job import Stream
from benchmarks.wrk import has_wrk, run_wrk
from headstock.demo import BACKBONE


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the main server and the bare session can do."""

    bulk: float  # rows/s in requests of 32
    singles: float  # rows/s in single texts
    row_ms: float  # one row alone in the bare session
    limits: Sequence[bare.Way]  # the ways of the bare session that came out fastest


def capacity(stage: Stage) -> Capacity:
    """Look once at everything, so that the rounds are about what matters."""
    stage.say("the bare session's best batch and threads")
    plain = stage.texts.plain
    speeds = bare.measure(stage.folder, plain, bare.all_ways(), stage.pace.seconds / 5)
    return Capacity(
        bulk=stage.speed(stage.bulk()),
        singles=stage.speed(stage.singles()),
        row_ms=bare.single_ms(stage.folder, plain, stage.pace.seconds / 4),
        limits=sorted(speeds, key=lambda way: -speeds[way])[:2],
    )


def measure(stage: Stage, capacity: Capacity) -> list[Figure]:
    """Figures of throughput."""
    return [*_served(stage, capacity), *_precisions(stage, capacity), *_padding(stage)]


def _served(stage: Stage, capacity: Capacity) -> list[Figure]:
    stage.say("served rows against the bare session")
    sides = in_turn(
        stage.pace.rounds,
        {
            "bare": lambda: _limit(stage, stage.folder, capacity.limits),
            "bulk": lambda: stage.speed(stage.bulk()),
            "singles": lambda: _wrk_speed(stage),
        },
    )
    by_length = _limit(stage, stage.folder, bare.all_ways(by_length=True))
    single = "from 64 clients" + ("" if has_wrk() else " (wrk is not here: our load generator)")
    bulk, singles, limit = sides["bulk"], sides["singles"], sides["bare"]
    return [
        ratio("served ÷ bare session, requests of 32", bulk, limit, "0.97", "rows/s"),
        ratio(f"served ÷ bare session, single texts {single}", singles, limit, "0.80", "rows/s"),
        Figure("the bare session's best", str(capacity.limits[0])),
        Figure(
            "served ÷ bare session over rows sorted by length, which no server gets",
            f"{statistics.median(sides['bulk']) / by_length:.2f}",
        ),
    ]


def _limit(stage: Stage, folder: Path, ways: Sequence[bare.Way]) -> float:
    """The fastest of some ways to call the bare session, rows/s."""
    return max(bare.measure(folder, stage.texts.plain, ways, stage.pace.seconds / 2).values())


def _wrk_speed(stage: Stage) -> float:
    stream = stage.singles()
    if not has_wrk():
        return stage.speed(stream)
    done = run_wrk(stage.main.server.url, stream, stage.pace.seconds, stage.pace.warmup_s)
    assert done.failed == 0, f"{done.failed} requests failed"
    return done.requests / done.seconds


def _precisions(stage: Stage, capacity: Capacity) -> list[Figure]:
    stage.say("int8 against fp32")
    with serving(BACKBONE, heads(LARGE, N_LARGE), **NO_CACHE) as (other, targets):
        sides = in_turn(
            stage.pace.rounds,
            {
                "int8": lambda: stage.speed(stage.bulk()),
                "fp32": lambda: stage.speed(stage.bulk(targets), server=other),
                "bare": lambda: _limit(stage, folder_of(BACKBONE), capacity.limits),
            },
        )
    return [
        ratio("int8 ÷ fp32, requests of 32", sides["int8"], sides["fp32"], "2.0", "rows/s"),
        ratio("served ÷ bare session in fp32, requests of 32", sides["fp32"], sides["bare"]),
    ]


def _padding(stage: Stage) -> list[Figure]:
    """From the server's own counters, over texts of all lengths in random order."""
    figures = []
    for what, rows, clients in (("requests of 32", 32, 8), ("single texts, 64 clients", 1, 64)):
        stage.say(f"padding of mixed texts, {what}")
        before = _tokens(stage)
        stage.speed(Stream(stage.large, stage.texts.mixed, rows=rows, clients=clients))
        text, padded = (after - at for after, at in zip(_tokens(stage), before, strict=True))
        wasted = f"{1 - text / padded:.1%} of {padded:,.0f}"
        figures.append(Figure(f"padded tokens wasted on mixed texts, {what}", wasted, "5 %"))
    return figures


def _tokens(stage: Stage) -> tuple[float, float]:
    name = "headstock_batch_tokens_total"
    return stage.main.metric(name, kind="text"), stage.main.metric(name, kind="padded")
