"""The feature cache, shown apart: everywhere else it is off."""

import numpy as np

from benchmarks.common import Figure
from benchmarks.engine.stage import LARGE, N_LARGE, Stage, heads, in_turn, ratio, serving
from benchmarks.engine.tenancy import zipf
from benchmarks.engine.throughput import Capacity
from benchmarks.job import Stream

_BYTES = 64 * 2**20
_DRAWN = 16_384


def measure(stage: Stage, _: Capacity) -> list[Figure]:
    """What the cache gains where texts come again, the first most often."""
    stage.say("the feature cache")
    plain = stage.texts.plain
    shares = np.asarray(zipf(len(plain)))
    drawn = np.random.default_rng(0).choice(len(plain), size=_DRAWN, p=shares / shares.sum())
    texts = [plain[position] for position in drawn]
    cached = {"HEADSTOCK_FEATURE_CACHE_BYTES": str(_BYTES)}
    with serving(stage.backbone, heads(LARGE, N_LARGE), **cached) as (other, targets):
        for tenant in {target.tenant for target in targets}:
            other.client.set_feature_cache(tenant, "own")
        sides = in_turn(
            stage.pace.rounds,
            {
                "off": lambda: stage.speed(Stream(stage.large, texts, rows=32, clients=8)),
                "on": lambda: stage.speed(Stream(targets, texts, rows=32, clients=8), server=other),
            },
        )
        hits = other.metric("headstock_feature_cache_hits_total")
        misses = other.metric("headstock_feature_cache_misses_total")
    found = f"{hits / (hits + misses):.0%}"
    what = f"texts that come again (Zipf over {len(plain):,}), requests of 32"
    return [
        ratio(f"{what}: with feature cache ÷ without", sides["on"], sides["off"], "", "rows/s"),
        Figure(f"{what}: found in the cache", found),
    ]
