"""Ten thousand tenants against one."""

from benchmarks.common import Figure
from benchmarks.engine.stage import Stage, in_turn, ratio
from benchmarks.engine.throughput import Capacity
from benchmarks.job import Stream

_ZIPF = 1.0
_TURNS = 3  # a round: what is looked for is smaller than what one turn differs from the next
_TOUCH = ("hi",)  # a short text, so that loading all adapters is soon done


def zipf(count: int) -> list[float]:
    """The shares of the first, the second …: 1, 1/2, 1/3 …"""
    return [1 / place**_ZIPF for place in range(1, count + 1)]


def measure(stage: Stage, capacity: Capacity) -> list[Figure]:
    """Figures of many tenants, each with one adapter, once all of these are in memory."""
    tenants = stage.small
    stage.say(f"loading the adapters of {len(tenants):,} tenants")
    _touch_all(stage, capacity)
    stage.say("many tenants against one")
    loads = stage.main.metric("headstock_adapter_loads_total")
    one, uniform = stage.singles(tenants[:1]), stage.singles(tenants)
    skewed = Stream(tenants, stage.texts.plain, clients=64, weights=zipf(len(tenants)))
    sides = in_turn(
        _TURNS * stage.pace.rounds,
        {
            "one": lambda: stage.speed(one),
            "uniform": lambda: stage.speed(uniform),
            "zipf": lambda: stage.speed(skewed),
        },
    )
    again = stage.main.metric("headstock_adapter_loads_total") - loads
    n = f"{len(tenants):,} tenants, {_TURNS * stage.pace.rounds} rounds"
    return [
        ratio(f"{n}, uniform ÷ one tenant", sides["uniform"], sides["one"], "0.98", "rows/s"),
        ratio(f"{n}, Zipf ÷ one tenant", sides["zipf"], sides["one"], "0.98", "rows/s"),
        Figure("adapters loaded meanwhile: all were in memory", f"{again:,.0f}", "0"),
    ]


def _touch_all(stage: Stage, capacity: Capacity) -> None:
    """Ask every tenant's adapter once."""
    resident = 0.0
    while resident < len(stage.small):
        before = resident
        touch = Stream(stage.small, _TOUCH, clients=32)
        stage.load(touch, seconds=len(stage.small) / capacity.singles, warmup_s=0)
        resident = stage.main.metric("headstock_resident_adapters")
        assert resident > before, "adapters are dropped: the server has too little memory for them"
