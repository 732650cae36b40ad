"""LoRA inside the backbone: other weights in every row, and more of them than there are slots."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from backbone.cores import cores
from backbone.package import read_manifest
from benchmarks.common import Bench, Figure
from benchmarks.engine.stage import LARGE, NO_CACHE, Stage, heads, in_turn, ratio, serving
from benchmarks.engine.throughput import Capacity
from benchmarks.job import Target, pooled
from benchmarks.seed import Lora, Wanted

_TENANTS = 64
_SMALL = Lora(8, ("query", "value"))
_LARGE = Lora(16, ())
_SLOTS = 32  # of rank 8, where the working set is larger
_WORKING_SET = 4 * _SLOTS
_LOAD = 0.5  # of the capacity, where latencies are compared
_TURNS = 2  # a round, of these


def measure(stage: Stage, _: Capacity) -> list[Figure]:
    """Figures of LoRA, where the backbone takes it."""
    if not read_manifest(stage.folder).sites:
        return [Figure("LoRA", f"not run: the backbone {stage.backbone} has no sites for it")]
    return [*_cost(stage), *_working_set(stage)]


def tenants(lora: Lora, count: int) -> list[Wanted]:
    """Tenants with heads like the others, and LoRA of their own."""
    return [
        replace(each, tenant=f"rank-{lora.rank}-{number}", lora=lora)
        for number, each in enumerate(heads(LARGE, count))
    ]


def _cost(stage: Stage) -> list[Figure]:
    """Single texts from 64 clients of as many tenants: hardly two rows of a batch are alike."""
    stage.say("a LoRA of its own in every row")
    wanted = [*heads(LARGE, _TENANTS), *tenants(_SMALL, _TENANTS), *tenants(_LARGE, _TENANTS)]
    ranks = _TENANTS * (_SMALL.rank + _LARGE.rank)
    slots = {"HEADSTOCK_LORA_RANKS": str(ranks), **NO_CACHE}
    with serving(stage.backbone, wanted, **slots) as (server, targets):
        kinds = {
            name: targets[number * _TENANTS : (number + 1) * _TENANTS]
            for number, name in enumerate(("none", "small", "large"))
        }
        inside: dict[str, list[float]] = {name: [] for name in kinds}
        for each in kinds.values():
            stage.speed(stage.singles(each), server)  # all in memory, all in their slots
        sides = in_turn(
            stage.pace.rounds,
            {
                name: _watched(stage, server, each, inside[name].append)
                for name, each in kinds.items()
            },
        )
    small = "every row with a LoRA of its own, rank 8 on query and value ÷ no LoRA"
    large = "every row with a LoRA of its own, rank 16 on all matrix products ÷ no LoRA"
    return [
        ratio(small, sides["small"], sides["none"], "0.92", "rows/s"),
        ratio(large, sides["large"], sides["none"], "", "rows/s"),
        Figure(
            "core time of a row, in the backbone + around it: no LoRA; rank 8; rank 16 on all",
            "; ".join(_where(sides[name], inside[name]) for name in kinds),
        ),
    ]


def _watched(
    stage: Stage, server: Bench, targets: Sequence[Target], spent: Callable[[float], None]
) -> Callable[[], float]:
    """Rows a second; tells `spent` the backbone's share of a row's time [ms]."""

    def speed() -> float:
        seconds = server.metric("headstock_backbone_seconds_sum")
        rows = server.metric("headstock_batch_rows_sum")
        found = stage.speed(stage.singles(targets), server)
        seconds = server.metric("headstock_backbone_seconds_sum") - seconds
        spent(1000 * seconds / (server.metric("headstock_batch_rows_sum") - rows))
        return found

    return speed


def _where(speeds: Sequence[float], inside: Sequence[float]) -> str:
    backbone = statistics.median(inside)
    return f"{backbone:.2f} + {1000 * cores() / statistics.median(speeds) - backbone:.2f} ms"


def _working_set(stage: Stage) -> list[Figure]:
    stage.say("more LoRA adapters than slots")
    slots = {"HEADSTOCK_LORA_RANKS": str(_SLOTS * _SMALL.rank), **NO_CACHE}
    with serving(stage.backbone, tenants(_SMALL, _WORKING_SET), **slots) as (server, targets):
        few = stage.singles(targets[:_SLOTS])
        many = stage.singles(targets)
        stage.load(many, server=server)  # all read once
        alone, crowded = [], []
        for number in range(_TURNS * stage.pace.rounds):
            rate = _LOAD * stage.speed(few, server)
            alone += stage.load(replace(few, rate=rate, seed=number), server=server)
            crowded += stage.load(replace(many, rate=rate, seed=number), server=server)
    base, found = pooled(alone), pooled(crowded)
    times = found.percentile_ms(99) / base.percentile_ms(99)
    value = f"{times:.2f} ({found.percentile_ms(99):.1f} to {base.percentile_ms(99):.1f} ms)"
    refused = found.refused + found.failed
    return [
        Figure(
            f"p99 with {_WORKING_SET} LoRA adapters in {_SLOTS} slots ÷ with {_SLOTS}, "
            f"at {_LOAD:.0%} of the capacity",
            value + (f", {refused} refused or failed" if refused else ""),
            "2",
        )
    ]
