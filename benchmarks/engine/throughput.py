"""Served against the bare session; int8 against fp32; what padding wastes."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from backbone.cores import cores
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

_TURNS = 2  # in each round, for the ratio that is looked at most closely


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the main server and the bare session can do."""

    bulk: float  # rows/s in requests of 32
    singles: float  # rows/s in single texts
    row_ms: float  # one row alone in the bare session


def capacity(stage: Stage) -> Capacity:
    """Look once at everything, so that the rounds are about what matters."""
    stage.say("what the server and the bare session can do")
    return Capacity(
        bulk=stage.speed(stage.bulk()),
        singles=stage.speed(stage.singles()),
        row_ms=bare.single_ms(stage.folder, stage.texts.plain, stage.pace.seconds / 4),
    )


def served(stage: Stage, _: Capacity) -> list[Figure]:
    """Compare served rows with the bare session over the same rows, sorted by length."""
    stage.say("served rows against the bare session over sorted rows")
    spent: list[float] = []
    sides = in_turn(
        _TURNS * stage.pace.rounds,
        {
            "bare": lambda: _bare_speed(stage, stage.backbone),
            "bulk": lambda: _watched(stage, spent.append),
            "singles": lambda: _wrk_speed(stage),
        },
    )
    single = "from 64 clients" + ("" if has_wrk() else " (wrk is not here: our load generator)")
    what = "served ÷ bare session over sorted rows"
    bulk, singles, limit = sides["bulk"], sides["singles"], sides["bare"]
    return [
        ratio(f"{what}, requests of 32", bulk, limit, "0.90", "rows/s"),
        ratio(f"{what}, single texts {single}", singles, limit, "0.80", "rows/s"),
        Figure("the bare session over sorted rows", str(bare.SORTED)),
        Figure(
            "core time of a row: the bare session; the server's CPU in requests of 32",
            f"{1000 * cores() / statistics.median(limit):.2f}; {statistics.median(spent):.2f} ms",
        ),
    ]


def _bare_speed(stage: Stage, backbone: str) -> float:
    return bare.speed(folder_of(backbone), stage.texts.plain, stage.pace.seconds)


def _watched(stage: Stage, note: Callable[[float], None]) -> float:
    """Measure rows per second in requests of 32; `note` gets the server's CPU per row [ms]."""
    rows, cpu = stage.main.metric("headstock_batch_rows_sum"), stage.main.worker_cpu_s()
    speed = stage.speed(stage.bulk())
    rows = stage.main.metric("headstock_batch_rows_sum") - rows
    note(1000 * (stage.main.worker_cpu_s() - cpu) / rows)
    return speed


def _wrk_speed(stage: Stage) -> float:
    stream = stage.singles()
    if not has_wrk():
        return stage.speed(stream)
    done = run_wrk(stage.main.server.url, stream, stage.pace.seconds, stage.pace.warmup_s)
    assert done.failed == 0, f"{done.failed} requests failed"
    return done.requests / done.seconds


def precisions(stage: Stage, _: Capacity) -> list[Figure]:
    """Compare int8 with fp32, and fp32 with its own bare session."""
    stage.say("int8 against fp32")
    with serving(BACKBONE, heads(LARGE, N_LARGE), **NO_CACHE) as (other, targets):
        sides = in_turn(
            stage.pace.rounds,
            {
                "int8": lambda: stage.speed(stage.bulk()),
                "fp32": lambda: stage.speed(stage.bulk(targets), server=other),
                "bare": lambda: _bare_speed(stage, BACKBONE),
            },
        )
    return [
        ratio("int8 ÷ fp32, requests of 32", sides["int8"], sides["fp32"], "2.0", "rows/s"),
        ratio(
            "served ÷ bare session over sorted rows in fp32, requests of 32",
            sides["fp32"],
            sides["bare"],
        ),
    ]


def padding(stage: Stage, _: Capacity) -> list[Figure]:
    """Read the waste from the server's own counters, over texts of all lengths in random order."""
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
