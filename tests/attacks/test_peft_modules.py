"""LoRA weights that no adapter can have: refused with the module."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from backbone import Backbone
from tests.attacks.support import PEFT_TENSORS, QUERY, peft_refusal, zeros
from tests.peft_folders import Matrix, make_modules, write_peft
from tests.tiny import INNER, WIDTH
from training.peft.lora import read_peft


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path: Path, backbone: Backbone, bad: float) -> None:
    modules = make_modules(QUERY)
    modules["layer.query"][1][3, 1] = bad
    folder = write_peft(tmp_path / "peft", modules)
    found = peft_refusal(folder, backbone)
    assert "layer.query.lora_B.weight' has values that are NaN or infinite" in found


@pytest.mark.parametrize("alpha", [1e40, 1e308])
def test_a_scale_that_overflows(tmp_path: Path, backbone: Backbone, alpha: float) -> None:
    folder = write_peft(tmp_path / "peft", make_modules(QUERY), lora_alpha=alpha)
    assert "lora_B is too large once it is scaled" in peft_refusal(folder, backbone)


@pytest.mark.parametrize("missing", ["A", "B"])
def test_one_factor_without_the_other(folder: Path, backbone: Backbone, missing: str) -> None:
    tensors = safetensors.numpy.load_file(folder / PEFT_TENSORS)
    del tensors[f"base_model.model.layer.query.lora_{missing}.weight"]
    safetensors.numpy.save_file(tensors, folder / PEFT_TENSORS)
    assert f"module 'layer.query' has no lora_{missing}" in peft_refusal(folder, backbone)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((4, 8), (8, 3), "has lora_A [4, 8] and lora_B [8, 3]; with the rank 4"),
        ((3, 8), (8, 3), "has lora_A [3, 8] and lora_B [8, 3]; with the rank 4"),
        ((4, 8, 1), (8, 4), "has lora_A [4, 8, 1]"),
        ((4,), (8, 4), "has lora_A [4]"),
        ((0, 8), (8, 0), "has lora_A [0, 8]"),
        ((4, 16), (8, 4), "goes from width 16 to 8; the backbone's goes from 8 to 8"),
        ((4, 8), (9, 4), "goes from width 8 to 9; the backbone's goes from 8 to 8"),
        ((4, 0), (8, 4), "goes from width 0 to 8"),
    ],
)
def test_wrong_shapes(
    tmp_path: Path, backbone: Backbone, a: tuple[int, ...], b: tuple[int, ...], message: str
) -> None:
    folder = write_peft(tmp_path / "peft", {"layer.query": (zeros(*a), zeros(*b))})
    assert message in peft_refusal(folder, backbone)


def test_a_rank_over_the_limit(tmp_path: Path, backbone: Backbone) -> None:
    folder = write_peft(tmp_path / "a", make_modules({"layer.query": (65, WIDTH, WIDTH)}), r=65)
    assert "has rank 65; an adapter has at most 64" in peft_refusal(folder, backbone)
    ranks = {"layer.query": (64, WIDTH, WIDTH), "layer.up": (1, WIDTH, INNER)}
    folder = write_peft(tmp_path / "b", make_modules(ranks), rank_pattern={"query": 64}, r=1)
    assert read_peft(folder, backbone.manifest).lora.rank == 64


@pytest.mark.parametrize(
    ("others", "named"),
    [
        ({"embedding.lora_embedding_A": zeros(4, 9)}, "embedding.lora_embedding_A"),
        ({"layer.query.lora_magnitude_vector": zeros(8)}, "layer.query.lora_magnitude_vector"),
        ({"layer.query.lora_B.bias": zeros(8)}, "layer.query.lora_B.bias"),
        ({"layer.query.bias": zeros(8)}, "layer.query.bias"),
        ({"embedding.weight": zeros(97, 8)}, "embedding.weight"),
        ({"lay.conv.lora_A.weight": zeros(4, 8, 3)}, "lay.conv"),
        ({"query.lora_A.weight.lora_A.weight": zeros(4, 8)}, "query.lora_A.weight"),
        ({"..lora_A.weight": zeros(4, 8)}, "'.'"),
        ({"classifier.lora_magnitude_vector": zeros(4)}, "classifier.lora_magnitude_vector"),
    ],
)
def test_what_no_lora_of_a_backbone_is_gets_named(
    tmp_path: Path, backbone: Backbone, others: dict[str, Matrix], named: str
) -> None:
    folder = write_peft(tmp_path / "peft", make_modules(QUERY), others)
    found = peft_refusal(folder, backbone)
    assert "has weights that LoRA of backbone tiny cannot have: " in found
    assert named in found


def test_a_tensor_without_pefts_prefix(folder: Path, backbone: Backbone) -> None:
    tensors = safetensors.numpy.load_file(folder / PEFT_TENSORS)
    tensors["layer.query.lora_A.weight"] = zeros(4, 8)
    safetensors.numpy.save_file(tensors, folder / PEFT_TENSORS)
    assert "cannot have: 'layer.query.lora_A.weight'" in peft_refusal(folder, backbone)


def test_many_unknown_modules_are_named_up_to_a_bound(tmp_path: Path, backbone: Backbone) -> None:
    shapes = {f"decoder.{number:02}.k": (4, WIDTH, WIDTH) for number in range(25)}
    folder = write_peft(tmp_path / "peft", make_modules({**QUERY, **shapes}))
    found = peft_refusal(folder, backbone)
    assert [f"'decoder.{number:02}.k'" in found for number in range(25)] == [True] * 10 + [
        False
    ] * 15
    assert "and 15 more" in found


def test_a_factor_that_stands_there_twice(folder: Path, backbone: Backbone) -> None:
    tensors = safetensors.numpy.load_file(folder / PEFT_TENSORS)
    tensors["base_model.model.layer.query.lora_A.default.weight"] = zeros(4, 8)
    safetensors.numpy.save_file(tensors, folder / PEFT_TENSORS)
    assert "cannot have: 'base_model.model.layer.query.lora_A" in peft_refusal(folder, backbone)


def test_no_module_at_all(tmp_path: Path, backbone: Backbone) -> None:
    assert "no LoRA at any site" in peft_refusal(write_peft(tmp_path / "peft", {}), backbone)


def test_two_modules_that_would_be_one_site(tmp_path: Path, backbone: Backbone) -> None:
    twice = {**QUERY, "bert.layer.query": (4, WIDTH, WIDTH)}
    folder = write_peft(tmp_path / "a", make_modules(twice))
    assert "cannot have: 'layer.query'" in peft_refusal(folder, backbone)
    two = {"encoder.layer.query": (4, WIDTH, WIDTH), "decoder.layer.value": (4, WIDTH, WIDTH)}
    folder = write_peft(tmp_path / "b", make_modules(two))
    assert "under several models: 'decoder', 'encoder'" in peft_refusal(folder, backbone)


@pytest.mark.parametrize("prefix", ["", "bert.", "model.", "0.auto_model."])
def test_a_prefix_is_taken_off(tmp_path: Path, backbone: Backbone, prefix: str) -> None:
    shapes = {f"{prefix}{name}": shape for name, shape in QUERY.items()}
    found = read_peft(write_peft(tmp_path / "peft", make_modules(shapes)), backbone.manifest)
    assert list(found.lora.sites) == ["layer.query"]
    assert f"{found.family}." == (prefix or ".")


def test_a_site_may_have_the_longer_name(tmp_path: Path, backbone: Backbone) -> None:
    folder = write_peft(tmp_path / "peft", make_modules({"query": (4, WIDTH, WIDTH)}))
    assert list(read_peft(folder, backbone.manifest).lora.sites) == ["layer.query"]
    folder = write_peft(tmp_path / "part", make_modules({"uery": (4, WIDTH, WIDTH)}))
    assert "cannot have: 'uery'" in peft_refusal(folder, backbone)


def test_padding_with_zeros_is_all_that_mixed_ranks_change(
    tmp_path: Path, backbone: Backbone
) -> None:
    shapes = {"layer.query": (2, WIDTH, WIDTH), "layer.up": (5, WIDTH, INNER)}
    modules = make_modules(shapes)
    patterns = {"rank_pattern": {"up": 5}, "alpha_pattern": {"up": 10}}
    folder = write_peft(tmp_path / "peft", modules, None, r=2, lora_alpha=3, **patterns)
    found = read_peft(folder, backbone.manifest)
    sites = found.lora.sites
    assert found.lora.rank == 5
    a, b = modules["layer.query"]
    np.testing.assert_array_equal(sites["layer.query"].a, np.vstack([a, zeros(3, WIDTH)]))
    np.testing.assert_array_equal(sites["layer.query"].b, np.vstack([b.T * 1.5, zeros(3, WIDTH)]))
    a, b = modules["layer.up"]
    np.testing.assert_array_equal(sites["layer.up"].a, a)
    np.testing.assert_array_equal(sites["layer.up"].b, b.T * 2)
