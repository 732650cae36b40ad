"""Neighbours never change an answer: to the bit, whatever shares a batch, in whatever order."""

import asyncio
from functools import cache
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.adapter import Adapter, read_adapter
from adapters.answers import Answer
from adapters.manifest import HeadName, TaskName
from backbone import Backbone
from service.engine import Engine, EngineLimits
from service.metrics import Metrics
from tests.support import PAIRS, make_adapter_file
from tests.tiny import MAX_LENGTH, make_tiny_backbone

N_LABELS = (2, 3, 5, 17, 64, 150)  # of linear classification; then one of each other kind
ADAPTERS: list[tuple[int, TaskName, HeadName]] = [
    *((n_labels, "classification", "linear") for n_labels in N_LABELS),
    *((5, task, head) for task, head in PAIRS if (task, head) != ("classification", "linear")),
]
TOP_K = 5


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return make_tiny_backbone(tmp_path_factory.mktemp("tiny") / "backbones")


@cache
def adapter(number: int) -> Adapter:
    n_labels, task, head = ADAPTERS[number]
    labels = tuple(f"label-{position}" for position in range(n_labels))
    if task == "tagging":
        labels = ("O", "B-x", "I-x", "B-y", "I-y")
    return read_adapter(make_adapter_file(labels, seed=number, task=task, head=head))


texts = st.text(st.characters(codec="utf-8"), max_size=MAX_LENGTH + 4)
requests = st.tuples(st.integers(0, len(ADAPTERS) - 1), st.lists(texts, min_size=1, max_size=4))


@settings(
    max_examples=100, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    arrivals=st.lists(requests, min_size=1, max_size=12),
    batch_tokens=st.sampled_from([1, 16, 40, 256]),
    runs=st.integers(1, 3),
)
def test_every_row_is_answered_as_if_it_were_alone(
    backbone: Backbone,
    arrivals: list[tuple[int, list[str]]],
    batch_tokens: int,
    runs: int,
) -> None:
    together = asyncio.run(answer(backbone, arrivals, batch_tokens, runs))
    for (number, inputs), answers in zip(arrivals, together, strict=True):
        assert answers == [alone(backbone, number, text) for text in inputs]


@settings(
    max_examples=30, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(arrivals=st.lists(requests, min_size=2, max_size=12), order=st.randoms())
def test_the_order_of_arrival_changes_no_answer(
    backbone: Backbone, arrivals: list[tuple[int, list[str]]], order: Random
) -> None:
    shuffled = list(range(len(arrivals)))
    order.shuffle(shuffled)
    first = asyncio.run(answer(backbone, arrivals, 64, 2))
    second = asyncio.run(answer(backbone, [arrivals[place] for place in shuffled], 64, 2))
    assert [first[place] for place in shuffled] == second


def alone(backbone: Backbone, number: int, text: str) -> Answer:
    row = backbone.preprocess(text, with_spans=True)
    name = adapter(number).manifest.feature
    feature = backbone.run([row], {name})[name][0]
    if adapter(number).per_token:
        assert row.spans is not None
        feature = feature[row.spans.positions]
    return adapter(number).answer(feature, TOP_K)


async def answer(
    backbone: Backbone, arrivals: list[tuple[int, list[str]]], batch_tokens: int, runs: int
) -> list[list[Answer]]:
    engine = Engine(backbone, EngineLimits(10_000, batch_tokens, runs), Metrics())
    engine.start()
    try:
        return await asyncio.gather(
            *(
                engine.answer(
                    [backbone.preprocess(text, adapter(n).per_token) for text in inputs],
                    adapter(n),
                    TOP_K,
                )
                for n, inputs in arrivals
            )
        )
    finally:
        await engine.stop()


async def test_the_property_is_tested_on_shared_batches(backbone: Backbone) -> None:
    """Else the tests above could pass with every row in a batch of its own."""
    metrics = Metrics()
    engine = Engine(backbone, EngineLimits(10_000, 256, 1), metrics)
    engine.start()
    rows = [backbone.preprocess(text) for text in ("a", "abc", "a longer text")]
    await asyncio.gather(*(engine.answer(rows, adapter(n), 1) for n in range(len(N_LABELS))))
    await engine.stop()
    value = metrics.registry.get_sample_value
    assert (value("headstock_batch_adapters_sum", {"backbone": "tiny"}) or 0) >= len(N_LABELS)
    assert (value("headstock_batch_rows_count", {"backbone": "tiny"}) or 99) < len(N_LABELS)
