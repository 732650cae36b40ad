"""LoRA of any ranks beside each other: each row has the bits that it has alone."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbone import MAX_RANK, Backbone, PlacedLora
from backbone.stability import random_factors
from tests.tiny import MAX_LENGTH, SITES, make_tiny_backbone
from training.backbones.packing import Build

FEATURES = ("pooled", "tokens")
TARGETS = (("layer.query", "layer.value"), tuple(SITES), ("layer.down",))
RANKS = (1, 2, 4, 7, 8, 9, 16, 17, 24, 33, MAX_RANK)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    root = tmp_path_factory.mktemp(request.param) / "backbones"
    return make_tiny_backbone(root, build=Build(request.param))


@pytest.fixture(scope="module")
def adapters(backbone: Backbone) -> list[PlacedLora | None]:
    """No LoRA, then each rank on each choice of sites, on pages in no order."""
    pool = backbone.lora_pool(len(TARGETS) * sum(RANKS))
    free = iter(np.random.default_rng(0).permutation(np.arange(1, pool.ranks + 1)).tolist())
    placed: list[PlacedLora | None] = [None]
    for rank in RANKS:
        for names in TARGETS:
            sites = {name: backbone.manifest.sites[name] for name in names}
            pages = [next(free) for _ in range(rank)]
            placed.append(pool.place(pages, random_factors(sites, rank, seed=len(placed))))
    return placed


texts = st.text(st.characters(codec="ascii"), max_size=MAX_LENGTH + 2)
batches = st.lists(
    st.tuples(texts, st.integers(0, len(TARGETS) * len(RANKS))), min_size=1, max_size=9
)


@settings(
    max_examples=60, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batch=batches)
def test_a_row_has_its_own_bits_in_any_batch(
    backbone: Backbone, adapters: list[PlacedLora | None], batch: list[tuple[str, int]]
) -> None:
    rows = [backbone.preprocess(text) for text, _ in batch]
    loras = [adapters[number] for _, number in batch]
    together = backbone.run(rows, FEATURES, loras)
    for position, (row, lora) in enumerate(zip(rows, loras, strict=True)):
        alone = backbone.run([row], FEATURES, [lora] if lora else ())
        for feature in FEATURES:
            assert same_bits(together, position, alone, feature, row.length)


def same_bits(
    one: Mapping[str, np.ndarray],
    position: int,
    other: Mapping[str, np.ndarray],
    feature: str,
    length: int,
) -> bool:
    first, second = one[feature][position], other[feature][0]
    if feature == "tokens":
        first, second = first[:length], second[:length]
    return bool(first.tobytes() == second.tobytes())


def test_the_property_is_tested_on_lora_that_matters(
    backbone: Backbone, adapters: list[PlacedLora | None]
) -> None:
    row = backbone.preprocess("some text")
    values = [backbone.run([row], ["pooled"], [lora])["pooled"].tobytes() for lora in adapters]
    assert len(set(values)) == len(adapters)
