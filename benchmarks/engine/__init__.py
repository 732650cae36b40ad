"""The engine under a real load, over HTTP: its figures are ratios, both sides taken in one run."""

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.common import Figure, table
from benchmarks.engine import arrivals, cache, lora, neighbours, overload, tenancy, throughput
from benchmarks.engine.picture import draw
from benchmarks.engine.stage import FULL, QUICK, Stage, stage
from benchmarks.results import RESULTS

PICTURE = RESULTS.with_name("latency.svg")
PARTS: Mapping[str, Callable[[Stage, throughput.Capacity], list[Figure]]] = {
    "served": throughput.served,
    "precisions": throughput.precisions,
    "padding": throughput.padding,
    "tenancy": tenancy.measure,
    "lora": lora.measure,
    "bulk-neighbour": neighbours.bulk,
    "singles-neighbour": neighbours.singles,
    "overload": overload.measure,
    "cache": cache.measure,
}


def measure(data: Path | None, quick: bool) -> str:
    """All figures of the engine as a section of `RESULTS.md`; the picture beside it."""
    with stage(data, QUICK if quick else FULL) as here:
        capacity = throughput.capacity(here)
        figures = [figure for part in PARTS.values() for figure in part(here, capacity)]
        points = arrivals.curve(here)
        figures += arrivals.figures(capacity, points)
        note = f"Texts: {here.texts.said}. {here.said()}"
    if not quick:
        PICTURE.write_text(draw(points))
    picture = f"![Latency of single texts against offered load]({PICTURE.name})"
    return f"{note}\n\n{table(figures)}\n\n{picture}"
