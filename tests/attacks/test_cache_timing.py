"""Tenants that time their own requests to learn what others have asked."""

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from adapters.registry import CacheMode
from backbone import Backbone
from tests.attacks.conftest import RecordAttack
from tests.contract.support import Server, make_template, serving

_PAIRS = 150
_RUN_S = 0.001  # a run of a backbone that is worth a cache
_CHANCE = 1e-4  # below this, one distribution does not give both samples


async def timed(server: Server, tenant: str, text: str) -> float:
    started = time.perf_counter()
    path = f"/v1/tenants/{tenant}/adapters/intents"
    await server.predict(text, path=path, key=server.keys[tenant])
    return time.perf_counter() - started


async def spy(server: Server, victim: CacheMode, spying: CacheMode, prefix: str) -> list[float]:
    """Seconds of the spy's requests, by turns for texts that the victim asked and for new ones."""
    for tenant, mode in (("acme", victim), ("other", spying)):
        await server.ok("PUT", f"/v1/tenants/{tenant}/feature-cache", json={"mode": mode})
    asked = [f"{prefix}a{n:05}" for n in range(_PAIRS)]
    new = [f"{prefix}b{n:05}" for n in range(_PAIRS)]
    for text in asked:
        await server.predict(text, key=server.keys["acme"])
    by_turns = itertools.chain.from_iterable(zip(asked, new, strict=True))
    return [await timed(server, "other", text) for text in by_turns]


async def test_time_tells_nothing_of_tenants_that_do_not_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_attack: RecordAttack
) -> None:
    run = Backbone.run

    def slower(*args: Any, **options: Any) -> Any:
        time.sleep(_RUN_S)
        return run(*args, **options)

    monkeypatch.setattr(Backbone, "run", slower)
    kept_apart: list[tuple[CacheMode, CacheMode]]
    kept_apart = [("own", "own"), ("own", "shared"), ("shared", "own")]
    found, chances = dict[str, float](), dict[str, float]()
    template = make_template(tmp_path / "template")
    async with serving(tmp_path / "home", template, feature_cache_bytes=2**26) as server:
        for number, modes in enumerate([*kept_apart, ("shared", "shared")]):
            hits = server.metric("feature_cache_hits_total")
            seconds = await spy(server, *modes, prefix=str(number))
            name = "/".join(modes)
            found[name] = server.metric("feature_cache_hits_total") - hits
            chances[name] = mannwhitneyu(seconds[::2], seconds[1::2]).pvalue
            medians = [1000 * float(np.median(seconds[start::2])) for start in (0, 1)]
    shared = chances.pop("shared/shared")
    least = min(chances.values())
    record_attack(
        attempts=3 * _PAIRS * (len(kept_apart) + 1),
        figure=f"p of {least:.2g} at least; {shared:.1g} where both share "
        f"({medians[0]:.1f} ms for {medians[1]:.1f})",
    )
    assert found.pop("shared/shared") == _PAIRS
    assert set(found.values()) == {0}
    assert shared < 1e-6  # so a difference would be seen
    assert least > _CHANCE, chances
