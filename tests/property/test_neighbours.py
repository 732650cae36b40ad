"""Neighbours never change an answer: to the bit, whatever shares a batch, in whatever order.

Any mix of tenants, tasks, heads, LoRA of several ranks and sites, layers, lengths and orders of
arrival, in fp32 and in int8.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.adapter import Adapter, read_adapter
from adapters.answers import Answer
from adapters.registry import CacheMode
from backbone import Backbone
from service.engine import Engine, Job
from service.metrics import Metrics
from tests.engines import answer_alone, make_engine
from tests.support import PAIRS, make_adapter_file
from tests.tiny import MAX_LENGTH, SITES, make_layered_backbone
from training.backbones.packing import Build

_SOME = {name: SITES[name] for name in ("layer.query", "layer.value")}
# Sites and rank of LoRA; the file's seed differs each time, so that no two share their weights.
_LORAS = [(None, 0), (_SOME, 1), (_SOME, 8), (_SOME, 9), (SITES, 4), (SITES, 16), (SITES, 64)]
# Labels, task, head, LoRA: linear classifiers of many sizes, then every pair with every LoRA.
_KINDS = [
    *((n, "classification", "linear", (None, 0)) for n in (2, 3, 17, 64, 150)),
    *((5, task, head, lora) for task, head in PAIRS for lora in _LORAS),
]
# Of these pairs, some mix the layers before the head, with every LoRA.
_MIXED = {("classification", "mlp"), ("classification", "knn"), ("multilabel", "linear")}
_MIX = (0.3, -1.7, 0.9)
_TAGS = ("O", "B-x", "I-x", "B-y", "I-y")
TOP_K = 5


@pytest.fixture(scope="module", params=["fp32", "int8"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    build = Build(precision=request.param)
    return make_layered_backbone(tmp_path_factory.mktemp("tiny") / "backbones", build=build)


@cache
def adapter(number: int) -> Adapter:
    n_labels, task, head, (sites, rank) = _KINDS[number]
    labels = _TAGS if task == "tagging" else tuple(f"label-{each}" for each in range(n_labels))
    kind: dict[str, Any] = {"task": task, "head": head, "sites": sites, "rank": rank}
    if (task, head) in _MIXED:
        kind |= {"feature": "layers", "mix": _MIX}
    return read_adapter(make_adapter_file(labels, seed=number, **kind))


texts = st.text(st.characters(codec="utf-8"), max_size=MAX_LENGTH + 4)
# A tenant, an adapter of it, its inputs.
arrivals_of = st.tuples(
    st.sampled_from("abc"),
    st.integers(0, len(_KINDS) - 1),
    st.lists(texts, min_size=1, max_size=4),
)
Arrivals = list[tuple[str, int, list[str]]]
relaxed = settings(
    max_examples=40, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@relaxed
@given(
    arrivals=st.lists(arrivals_of, min_size=1, max_size=12),
    batch_tokens=st.sampled_from([1, 16, 40, 256]),
    runs=st.integers(1, 3),
)
def test_every_row_is_answered_as_if_it_were_alone(
    backbone: Backbone, arrivals: Arrivals, batch_tokens: int, runs: int
) -> None:
    together = asyncio.run(serve(backbone, arrivals, batch_tokens, runs))
    for (_, number, inputs), answers in zip(arrivals, together, strict=True):
        assert answers == [answer_alone(backbone, adapter(number), text, TOP_K) for text in inputs]


@relaxed
@given(arrivals=st.lists(arrivals_of, min_size=2, max_size=12), order=st.randoms())
def test_the_order_of_arrival_changes_no_answer(
    backbone: Backbone, arrivals: Arrivals, order: Random
) -> None:
    shuffled = list(range(len(arrivals)))
    order.shuffle(shuffled)
    first = asyncio.run(serve(backbone, arrivals, 64, 2))
    second = asyncio.run(serve(backbone, [arrivals[place] for place in shuffled], 64, 2))
    assert [first[place] for place in shuffled] == second


@relaxed
@given(
    inputs=st.lists(st.sampled_from(["a", "ab", "a b c", ""]), min_size=1, max_size=4),
    numbers=st.lists(st.integers(0, len(_KINDS) - 1), min_size=1, max_size=6),
)
def test_what_the_cache_remembers_has_the_same_bits(
    backbone: Backbone, inputs: list[str], numbers: list[int]
) -> None:
    async def twice() -> list[list[list[Answer]]]:
        engine = make_engine(backbone, cache_bytes=10**7)
        engine.start()
        try:
            return [
                [await ask(engine, "a", number, inputs, cached=True) for number in numbers]
                for _ in range(2)
            ]
        finally:
            await engine.stop()

    expected = [
        [answer_alone(backbone, adapter(number), text, TOP_K) for text in inputs]
        for number in numbers
    ]
    assert asyncio.run(twice()) == [expected, expected]


async def test_the_property_is_tested_on_shared_batches(backbone: Backbone) -> None:
    """Else the tests above could pass with every row in a batch of its own."""
    metrics = Metrics()
    engine = make_engine(backbone, metrics)
    engine.start()
    numbers = range(len(_KINDS))
    await asyncio.gather(*(ask(engine, "a", number, ["abc", "abd"]) for number in numbers))
    await engine.stop()
    value = metrics.registry.get_sample_value
    runs = value("headstock_batch_rows_count", {"backbone": "tiny"})
    assert runs is not None
    assert (value("headstock_batch_adapters_sum", {"backbone": "tiny"}) or 0) > 1.3 * runs
    assert (value("headstock_lora_fills_total", {"backbone": "tiny"}) or 0) > 10


async def ask(
    engine: Engine, tenant: str, number: int, inputs: Sequence[str], cached: bool = False
) -> list[Answer]:
    rows = await engine.preprocess(inputs, adapter(number).per_token, tenant)
    mode: CacheMode = "own" if cached else "off"
    job = Job(tenant, (adapter(number),), TOP_K, cache_mode=lambda: mode)
    (answered,) = await engine.answer(rows, job)
    return [each for (each,) in answered]


async def serve(
    backbone: Backbone, arrivals: Arrivals, batch_tokens: int, runs: int
) -> list[list[Answer]]:
    engine = make_engine(backbone, batch_tokens=batch_tokens, runs=runs)
    engine.start()
    try:
        return await asyncio.gather(*(ask(engine, *arrival) for arrival in arrivals))
    finally:
        await engine.stop()
