import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from adapters.adapter import read_adapter
from adapters.lora import Lora
from backbone import LoraPool, PlacedLora
from service.engine.slots import LoraSlots
from service.metrics import Metrics
from service.testing import FakeBackbone
from tests.support import make_adapter_file

PATIENCE_S = 20


def make_lora(seed: int, rank: int = 4) -> Lora:
    content = make_adapter_file(seed=seed, sites={"layer.query": (8, 8)}, rank=rank)
    lora = read_adapter(content).lora
    assert lora is not None
    return lora


@contextmanager
def held(slots: LoraSlots, *loras: Lora) -> Iterator[Mapping[str, PlacedLora]]:
    with ExitStack() as stack:
        yield {lora.digest: stack.enter_context(slots.held(lora)) for lora in loras}


class Slots(LoraSlots):
    """Slots over a pool of so many ranks, with what was filled."""

    def __init__(self, ranks: int) -> None:
        self.metrics = Metrics()
        self.pool = FakeBackbone().lora_pool(ranks)
        super().__init__(self.pool, self.metrics.engine("fake"))

    @property
    def fills(self) -> float:
        labels = {"backbone": "fake"}
        return self.metrics.registry.get_sample_value("headstock_lora_fills_total", labels) or 0.0


def holds(placed: PlacedLora, lora: Lora) -> bool:
    """Whether the pool has this LoRA's weights on its pages."""
    a, b = placed.pool.arrays("layer.query")
    site = lora.sites["layer.query"]
    return np.array_equal(a[placed.pages], site.a) and np.array_equal(b[placed.pages], site.b)


def test_a_lora_is_filled_once_and_found_again() -> None:
    slots, lora = Slots(8), make_lora(1)
    for _ in range(3):
        with held(slots, lora) as placed:
            assert holds(placed[lora.digest], lora)
    assert slots.fills == 1


def test_the_least_recently_used_makes_room() -> None:
    slots = Slots(8)
    first, second, third = (make_lora(seed) for seed in range(3))
    for lora in (first, second, first, third):
        with held(slots, lora):
            pass
    assert slots.fills == 3
    with held(slots, first):
        assert slots.fills == 3
    with held(slots, second):
        assert slots.fills == 4


def test_what_is_held_is_never_written_over() -> None:
    slots = Slots(12)
    first = make_lora(0)
    with held(slots, first) as placed:
        for seed in range(1, 20):
            lora = make_lora(seed, rank=1 + seed % 8)
            with held(slots, lora) as other:
                assert holds(other[lora.digest], lora)
                assert holds(placed[first.digest], first)


def test_ranks_mix_without_a_page_lost() -> None:
    slots = Slots(64)
    random = np.random.default_rng(0)
    for seed in range(100):
        lora = make_lora(seed, rank=int(random.integers(1, 65)))
        with held(slots, lora) as placed:
            assert holds(placed[lora.digest], lora)
    whole = make_lora(1000, rank=64)
    with held(slots, whole) as placed:
        assert holds(placed[whole.digest], whole)


def test_several_are_held_at_once() -> None:
    slots = Slots(16)
    loras = [make_lora(seed) for seed in range(4)]
    with held(slots, *loras) as placed:
        assert all(holds(placed[lora.digest], lora) for lora in loras)


def test_a_fill_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    slots, lora = Slots(4), make_lora(1)
    place, broken = slots.pool.place, [True]

    def failing(pages: Sequence[int], weights: Any) -> PlacedLora:
        if broken:
            raise MemoryError("for the test")
        return place(pages, weights)

    monkeypatch.setattr(slots.pool, "place", failing)
    with pytest.raises(MemoryError), held(slots, lora):
        pass
    broken.clear()
    with held(slots, lora) as placed:
        assert holds(placed[lora.digest], lora)


def test_a_slow_fill_delays_those_who_need_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    slots, slow, quick = Slots(16), make_lora(1), make_lora(2)
    place, entered, go = slots.pool.place, threading.Event(), threading.Event()

    def slowly(pages: Sequence[int], weights: Any) -> PlacedLora:
        if weights["layer.query"][0] is slow.sites["layer.query"].a:
            entered.set()
            assert go.wait(PATIENCE_S)
        return place(pages, weights)

    monkeypatch.setattr(slots.pool, "place", slowly)
    found = []

    def hold() -> None:
        with held(slots, slow) as placed:
            found.append(holds(placed[slow.digest], slow))

    threads = [threading.Thread(target=hold) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert entered.wait(PATIENCE_S)
    with held(slots, quick) as placed:
        assert holds(placed[quick.digest], quick)
    assert found == []
    go.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert found == [True] * 3
    assert slots.fills == 2


def test_threads_that_share_a_small_pool_each_see_their_own() -> None:
    slots = Slots(16)  # two threads with two of four ranks each: all is held at times
    loras = [make_lora(seed, rank=4) for seed in range(10)]
    wrong: list[Lora] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(500):
            mine = [loras[each] for each in random.choice(len(loras), 2, replace=False)]
            with held(slots, *mine) as placed:
                wrong.extend(each for each in mine if not holds(placed[each.digest], each))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert wrong == []


def test_a_pool_is_as_large_as_it_says() -> None:
    pool = FakeBackbone().lora_pool(5)
    assert isinstance(pool, LoraPool)
    assert pool.ranks == 5
