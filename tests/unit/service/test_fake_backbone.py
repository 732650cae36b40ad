"""One contract for the fake and for the real thing: what the engine relies on."""

from pathlib import Path

import numpy as np
import pytest

from backbone import Backbone, BackboneError, PlacedLora
from backbone.stability import random_factors
from service.testing import FakeBackbone
from tests.tiny import make_layered_backbone

TEXTS = ("a", "", "two words", "a b c d e", "   ")


@pytest.fixture(params=["fake", "real"])
def backbone(request: pytest.FixtureRequest, tmp_path: Path) -> Backbone:
    if request.param == "fake":
        return FakeBackbone(width=5)
    return make_layered_backbone(tmp_path / "backbones")


def test_it_says_what_it_is(backbone: Backbone) -> None:
    assert backbone.name == backbone.manifest.name
    assert len(backbone.digest) == 64
    assert backbone.manifest.features["pooled"].dims == ("n", backbone.manifest.width("pooled"))


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_is_a_row_of_at_least_one_token(backbone: Backbone, text: str) -> None:
    row = backbone.preprocess(text)
    assert row.length == len(row.ids) >= 1
    assert row.ids.dtype == np.int64


def test_a_row_has_its_features_in_its_place(backbone: Backbone) -> None:
    rows = [backbone.preprocess(text) for text in TEXTS]
    features = backbone.run(rows, {"pooled"})
    assert set(features) == {"pooled"}
    pooled = features["pooled"]
    assert pooled.dtype == np.float32
    assert pooled.shape == (len(TEXTS), backbone.manifest.width("pooled"))
    for position, row in enumerate(rows):
        assert np.array_equal(backbone.run([row], ["pooled"])["pooled"][0], pooled[position])
    assert not np.array_equal(pooled[0], pooled[2])


def test_tokens_are_a_vector_each_and_pooled_stands_beside_them(backbone: Backbone) -> None:
    rows = [backbone.preprocess(text) for text in TEXTS]
    features = backbone.run(rows, {"pooled", "tokens"})
    tokens, width = features["tokens"], backbone.manifest.width("tokens")
    assert backbone.manifest.features["tokens"].dims == ("n", "t", width)
    assert tokens.shape == (len(TEXTS), max(row.length for row in rows), width)
    for position, row in enumerate(rows):
        alone = backbone.run([row], {"tokens"})["tokens"][0, : row.length]
        assert np.array_equal(tokens[position, : row.length], alone)


def test_layers_are_a_vector_each_and_the_last_is_pooled(backbone: Backbone) -> None:
    rows = [backbone.preprocess(text) for text in TEXTS]
    features = backbone.run(rows, {"pooled", "layers"})
    layers, width = features["layers"], backbone.manifest.width("layers")
    assert backbone.manifest.features["layers"].dims == ("n", 3, width)
    assert backbone.manifest.features["layers"].axes == ("n", 3)
    assert layers.dtype == np.float32
    assert layers.shape == (len(TEXTS), 3, width)
    assert np.array_equal(layers[:, -1], features["pooled"])
    for position, row in enumerate(rows):
        assert np.array_equal(backbone.run([row], {"layers"})["layers"][0], layers[position])
    assert not np.array_equal(layers[:, 0], layers[:, 1])


@pytest.mark.parametrize("text", TEXTS)
def test_spans_are_places_of_tokens_in_the_text(backbone: Backbone, text: str) -> None:
    row = backbone.preprocess(text, with_spans=True)
    assert backbone.preprocess(text).spans is None
    assert row.spans is not None
    assert len(row.spans.positions) == len(row.spans.characters)
    assert all(0 <= position < row.length for position in row.spans.positions)
    assert all(text[start:end] for start, end in row.spans.characters)


def test_a_feature_that_it_does_not_have_fails_the_run(backbone: Backbone) -> None:
    with pytest.raises(BackboneError):
        backbone.run([backbone.preprocess("a")], {"regions"})


def test_rows_with_lora_beside_rows_without(backbone: Backbone) -> None:
    pool = backbone.lora_pool(12)
    first, last = backbone.manifest.lora[0], backbone.manifest.lora[-1]
    assert len(first.sites) < len(last.sites)
    placed: list[PlacedLora] = []
    for pages, graph in ((range(1, 9), first), ([12, 10], last)):
        sites = {name: backbone.manifest.sites[name] for name in graph.sites}
        placed.append(pool.place(pages, random_factors(sites, len(pages), seed=len(placed))))
    assert [lora.graph for lora in placed] == [0, len(backbone.manifest.lora) - 1]
    loras = [None, *placed]
    rows = [backbone.preprocess("a text")] * 3
    together = backbone.run(rows, {"pooled"}, loras)["pooled"]
    for position, lora in enumerate(loras):
        alone = backbone.run(rows[:1], {"pooled"}, [lora])["pooled"][0]
        assert np.array_equal(alone, together[position])
    assert np.array_equal(together[0], backbone.run(rows[:1], {"pooled"})["pooled"][0])
    assert len({row.tobytes() for row in together}) == 3
    for array in pool.arrays(first.sites[0]):
        array[1:9] = 0  # the arrays are read when the run is on, not when the LoRA is placed
    changed = backbone.run(rows[:1], {"pooled"}, placed[:1])["pooled"][0]
    assert not np.array_equal(changed, together[1])


def test_the_fake_remembers_its_batches_and_fails_when_told() -> None:
    def refuse(rows: object) -> None:
        raise ValueError("told to")

    fake = FakeBackbone()
    fake.run([fake.preprocess("a"), fake.preprocess("b")], {"pooled"})
    assert fake.batches == [2]
    failing = FakeBackbone(before_run=refuse)
    with pytest.raises(ValueError, match="told to"):
        failing.run([failing.preprocess("a")], {"pooled"})
    assert failing.batches == []
