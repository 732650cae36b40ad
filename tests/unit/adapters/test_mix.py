"""Adapters that mix a backbone's layers before their head."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from adapters.adapter import read_adapter
from adapters.manifest import MAX_LAYERS, Manifest, parse_manifest
from adapters.scoring import mix_layers
from tests.support import PAIRS, SITES, make_adapter_file, make_manifest

MIX = (0.5, -1.0, 2.0)
WHOLE = [pair for pair in PAIRS if pair[0] != "tagging"]


def test_a_mix_is_the_sum_of_layers_times_their_weights() -> None:
    layers = np.array([[1, 2], [3, 4], [5, -6]], dtype=np.float32)
    mixed = mix_layers(np.array(MIX, dtype=np.float32), layers)
    assert mixed.tolist() == [0.5 - 3 + 10, 1 - 4 - 12]
    assert mixed.dtype == np.float32


@pytest.mark.parametrize("n_layers", [2, 7, 13, 25])
@pytest.mark.parametrize("width", [1, 8, 17, 384])
def test_a_row_has_the_same_bits_wherever_it_lies(n_layers: int, width: int) -> None:
    random = np.random.default_rng(n_layers * width)
    batch = random.standard_normal((9, n_layers, width)).astype(np.float32)
    mix = random.standard_normal(n_layers).astype(np.float32)
    for row in batch:
        expected = mix_layers(mix, row.copy())
        assert np.array_equal(mix_layers(mix, row), expected)
        shifted = np.empty(row.nbytes + 4, dtype=np.uint8)[4:].view(np.float32)
        shifted = shifted.reshape(row.shape)
        shifted[:] = row
        assert np.array_equal(mix_layers(mix, shifted), expected)


@pytest.mark.parametrize(("task", "head"), WHOLE)
@pytest.mark.parametrize("sites", [None, SITES])
def test_the_head_takes_what_the_mix_gives(task: Any, head: Any, sites: Any) -> None:
    kind = {"task": task, "head": head, "sites": sites}
    mixing = read_adapter(make_adapter_file(**kind, feature="layers", mix=MIX))
    plain = read_adapter(make_adapter_file(**kind))
    layers = np.random.default_rng(3).standard_normal((3, 8)).astype(np.float32)
    mixed = mix_layers(np.array(MIX, dtype=np.float32), layers)
    assert np.array_equal(mixing.score(layers), plain.score(mixed))
    assert mixing.answer(layers, 2) == plain.answer(mixed, 2)
    assert not np.array_equal(plain.score(mixed), plain.score(layers[-1]))
    assert (mixing.width, mixing.per_token) == (8, False)
    assert mixing.for_serving().answer(layers, 2) == plain.answer(mixed, 2)


def test_golden_rows_are_vectors_behind_the_mix() -> None:
    first = read_adapter(make_adapter_file(feature="layers", mix=MIX))
    second = read_adapter(make_adapter_file(feature="layers", mix=(1.0, 1.0)))
    assert first.digest != second.digest
    assert first.width == second.width == 8


@pytest.mark.parametrize("mix", [(1.0, 2.0), (0.0, 0.0), (-1e6, 1e6), (0.5,) * MAX_LAYERS])
def test_a_manifest_with_a_mix_round_trips(mix: tuple[float, ...]) -> None:
    manifest = make_manifest(mix=mix, feature="layers")
    assert parse_manifest(manifest.to_json()) == manifest
    assert manifest.mix == mix


def test_whole_numbers_are_weights_too_and_none_is_the_same_as_nothing() -> None:
    content = make_manifest().model_dump()
    assert Manifest.model_validate(content | {"mix": (1, 2)}).mix == (1.0, 2.0)
    del content["mix"]
    assert Manifest.model_validate(content) == make_manifest(mix=None)


@pytest.mark.parametrize("mix", [(), (1.0,), (1.0,) * (MAX_LAYERS + 1), (1.0, 1e7)])
def test_other_mixes_are_refused(mix: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="mix"):
        make_manifest(mix=mix, feature="layers")


def test_taggers_mix_no_layers() -> None:
    with pytest.raises(ValidationError, match="mix: tagging has none"):
        make_manifest(task="tagging", mix=(1.0, 1.0))
