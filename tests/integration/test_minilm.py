"""The default model for real: LoRA beside torch with merged weights, and what holds the bits."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from backbone import Backbone, BackboneError, load_backbone, lora
from backbone.samples import SAMPLE_TEXTS
from backbone.stability import check_lora_stability, random_factors
from training.backbones import add, sources
from training.backbones.export import load_encoder, merged_lora, reference_features
from training.backbones.packing import Build

PAIR = ("query", "value")
CASES = ((4, PAIR), (8, PAIR), (8, ("",)), (16, ("",)), (64, PAIR), (64, ("",)))


@pytest.fixture(scope="module")
def model_folder() -> Path:
    return sources.resolve("minilm", None).path


@pytest.fixture(scope="module", params=["fp32", "int8"])
def backbone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, demo_backbones: Path
) -> Backbone:
    if request.param == "fp32" and demo_backbones.exists():
        return load_backbone(demo_backbones / "minilm")
    found = sources.resolve("minilm", None)
    root = tmp_path_factory.mktemp("backbones")
    build = Build(request.param)
    added = add.add_from_folder(
        found.path, found.source, root, "minilm", lambda _: None, build=build
    )
    assert (added.int8 is not None) == (request.param == "int8")
    if added.int8:
        assert added.int8.cosine_mean > 0.99
        assert added.int8.cosine_minimum > 0.97
    return added.backbone


def test_what_is_there_is_not_made_again(backbone: Backbone) -> None:
    root, steps = backbone.folder.parent, list[str]()
    found = sources.resolve("minilm", None)
    build = Build(backbone.manifest.precision)

    def again(build: Build, replace: bool = False) -> str:
        work = (found.path, found.source, root, "minilm", steps.append)
        return add.add_from_folder(*work, replace, build).backbone.digest

    assert again(build) == backbone.digest
    assert steps == []
    with pytest.raises(BackboneError, match="another backbone"):
        again(build._replace(lora=["none"]))
    assert "exporting to ONNX" in steps


def test_token_ids_of_others_are_of_no_text(backbone: Backbone) -> None:
    for text in ("Where is my order?", "It isn't 3,000 days late!", "Wo ist Größe M?", ""):
        ids = backbone.preprocess(text).ids.tolist()
        found = backbone.text_of(ids)
        assert found is not None
        assert backbone.preprocess(found).ids.tolist() == ids
    assert backbone.text_of([101, 7592, 2088, 102]) == "hello world"
    assert backbone.text_of([101, 7592, 100, 102]) is None  # of an unknown token
    # By tiktoken's cl100k_base: "hello", "hello world" and "Where is my order?".
    for ids in ([15339], [15339, 1917], [9241, 374, 856, 2015, 30]):
        assert backbone.text_of(ids) is None


def test_sites_are_named_as_torch_names_its_modules(backbone: Backbone) -> None:
    sites = backbone.manifest.sites
    assert len(sites) == 36
    assert sites["encoder.layer.0.attention.self.query"].outputs == 384
    assert sites["encoder.layer.5.output.dense"].inputs == 1536
    assert [len(graph.sites) for graph in backbone.manifest.lora] == [12, 36]


def test_lora_is_what_torch_computes_with_merged_weights(
    backbone: Backbone, model_folder: Path
) -> None:
    """Rows of all cases in one batch; fp32 within 1e-4 of torch, int8 near in direction."""
    sites = backbone.manifest.sites
    pool = backbone.lora_pool(sum(rank for rank, _ in CASES))
    rows, loras, expected, first = [], [], [], 1
    encoder = load_encoder(model_folder)
    for number, (rank, endings) in enumerate(CASES):
        chosen = {name: site for name, site in sites.items() if name.endswith(endings)}
        weights = random_factors(chosen, rank, seed=number)
        loras.append(pool.place(range(first, first + rank), weights))
        first += rank
        rows.append(backbone.preprocess(SAMPLE_TEXTS[1 + number]))
        with merged_lora(encoder, weights):
            expected.append(reference_features(encoder, rows[-1].ids.tolist())["pooled"])
    pooled = backbone.run(rows, {"pooled"}, loras)["pooled"]
    plain = backbone.run(rows, {"pooled"})["pooled"]
    for ours, theirs, without in zip(pooled, expected, plain, strict=True):
        assert np.abs(ours - without).max() > 0.01
        if backbone.manifest.precision == "fp32":
            assert ours == pytest.approx(theirs, abs=add.TOLERANCE)
        else:
            assert cosine(ours, theirs) > 0.98
            assert cosine(ours, theirs) > cosine(without, theirs)


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_ranks_in_wider_groups_would_change_bits_and_be_refused(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora, "_GROUP", 64)
    with pytest.raises(BackboneError, match="with the other rows of its batch and their ranks"):
        check_lora_stability(backbone)


def test_two_threads_a_run_give_the_same_bits(backbone: Backbone, tmp_path: Path) -> None:
    folder = backbone.folder
    twice = load_backbone(folder, threads=2)
    rows = [backbone.preprocess(text) for text in SAMPLE_TEXTS]
    results = []
    for each in (backbone, twice):
        pool = each.lora_pool(72)
        loras = [
            pool.place(range(1, 65), random_factors(each.manifest.sites, 64, seed=1)),
            pool.place(range(65, 73), random_factors(each.manifest.sites, 8, seed=2)),
            None,
        ] * 4
        together = each.run(rows, {"pooled"}, loras)["pooled"]
        alone = [
            each.run([row], {"pooled"}, [lora])["pooled"][0]
            for row, lora in zip(rows, loras, strict=True)
        ]
        assert np.array_equal(together, alone)
        results.append(together)
    one, other = results
    assert np.array_equal(one, other)
