"""LoRA pools and the graphs that read them, on the tiny backbone."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backbone import MAX_RANK, Backbone, BackboneError, runtime
from backbone.files import PrivateFiles
from backbone.kernels import Kernels, open_session
from backbone.stability import check_lora_stability, random_factors
from tests.tiny import INNER, SITES, WIDTH, make_tiny_backbone, tiny_weights
from training.backbones.packing import Build

ALL = tuple(SITES)
PAIR = ("layer.query", "layer.value")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return make_tiny_backbone(tmp_path_factory.mktemp("tiny") / "backbones")


def factors(
    backbone: Backbone, names: tuple[str, ...], rank: int, seed: int = 0
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    return random_factors({name: backbone.manifest.sites[name] for name in names}, rank, seed)


def merged_tokens(
    ids: NDArray[np.int64], lora: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> NDArray[np.float32]:
    """What the tiny graph computes with the LoRA added to its weights."""
    weights = tiny_weights()
    weights["layer.down.weight"] = weights["layer.down.weight"].T
    for site, (a, b) in lora.items():
        weights[f"{site}.weight"] = weights[f"{site}.weight"] + a.T @ b
    embedded = weights["embedding"][ids]
    mixed = np.tanh(embedded @ weights["layer.query.weight"])
    mixed = mixed + embedded @ weights["layer.value.weight"]
    wide = np.tanh(mixed @ weights["layer.up.weight"] + weights["layer.up.bias"])
    tokens: NDArray[np.float32] = wide @ weights["layer.down.weight"]
    return tokens


def test_the_manifest_lists_sites_and_graphs(backbone: Backbone) -> None:
    sites = {name: (site.inputs, site.outputs) for name, site in backbone.manifest.sites.items()}
    assert sites == SITES
    assert [graph.sites for graph in backbone.manifest.lora] == [PAIR, ALL]
    assert {graph.file for graph in backbone.manifest.lora} < set(backbone.manifest.files)


@pytest.mark.parametrize("names", [PAIR, ALL, ("layer.up",)])
@pytest.mark.parametrize("rank", [1, 4, 8, 16, 17, MAX_RANK])
def test_lora_is_what_merged_weights_give(
    backbone: Backbone, names: tuple[str, ...], rank: int
) -> None:
    pool = backbone.lora_pool(100)
    weights = factors(backbone, names, rank)
    lora = pool.place(range(20, 20 + rank), weights)
    row = backbone.preprocess("where is it?")
    tokens = backbone.run([row], {"tokens"}, [lora])["tokens"][0]
    expected = merged_tokens(row.ids, weights)
    assert tokens == pytest.approx(expected, abs=1e-5)
    assert np.abs(tokens - merged_tokens(row.ids, {})).max() > 0.01


def test_a_lora_gets_the_smallest_graph_with_its_sites(backbone: Backbone) -> None:
    pool = backbone.lora_pool(10)
    chosen = {
        names: pool.place([1], factors(backbone, names, 1)).graph
        for names in (("layer.value",), PAIR, ("layer.up",), ALL)
    }
    assert list(chosen.values()) == [0, 0, 1, 1]


def test_a_page_that_is_used_again_keeps_nothing_of_before(backbone: Backbone) -> None:
    pool, fresh = backbone.lora_pool(4), backbone.lora_pool(4)
    pool.place([1, 2, 3], factors(backbone, ALL, 3, seed=1))
    weights = factors(backbone, PAIR, 2, seed=2)
    again, first = pool.place([3, 2], weights), fresh.place([3, 2], weights)
    widest = pool.place([4], factors(backbone, ALL, 1, seed=3))
    beside = fresh.place([4], factors(backbone, ALL, 1, seed=3))
    row = backbone.preprocess("abc")
    for one, other in (([again], [first]), ([again, widest], [first, beside])):
        rows = [row] * len(one)
        assert np.array_equal(
            backbone.run(rows, {"pooled"}, one)["pooled"],
            backbone.run(rows, {"pooled"}, other)["pooled"],
        )


def test_sites_that_nobody_has_stay_unwritten(backbone: Backbone) -> None:
    pool = backbone.lora_pool(4)
    pool.place([1, 2], factors(backbone, PAIR, 2))
    a, b = pool.arrays("layer.up")
    assert (a.shape, b.shape) == ((5, WIDTH), (5, INNER))
    assert not a.any()
    assert not b.any()


def test_what_does_not_fit_a_pool_is_refused(backbone: Backbone) -> None:
    pool = backbone.lora_pool(70)
    one = factors(backbone, PAIR, 1)
    wrong = {"layer.up": (np.zeros((1, WIDTH), np.float32), np.zeros((1, WIDTH), np.float32))}
    for pages, weights, message in (
        ([0], one, r"the pages 1 to 70, not \[0\]"),
        ([71], one, r"the pages 1 to 70, not \[71\]"),
        ([3, 3], factors(backbone, PAIR, 2), "named twice"),
        ([], {}, "1 to 64 pages, not 0"),
        (range(1, 66), factors(backbone, PAIR, 65), "1 to 64 pages, not 65"),
        ([1, 2], one, r"'layer.query' have shape \(1, 8\); 2 pages take \(2, 8\)"),
        ([1], wrong, r"'layer.up' have shape \(1, 8\); 1 pages take \(1, 24\)"),
        ([1], {"layer.key": one["layer.query"]}, r"no LoRA graph with the sites \['layer.key'\]"),
    ):
        with pytest.raises(BackboneError, match=message):
            pool.place(pages, weights)
    assert all(not array.any() for site in ALL for array in pool.arrays(site))


def test_rows_and_loras_must_match(backbone: Backbone) -> None:
    one, other = (backbone.lora_pool(1).place([1], factors(backbone, PAIR, 1)) for _ in "12")
    row = backbone.preprocess("a")
    for rows, loras in (([row] * 3, [one]), ([row] * 2, [one, other])):
        with pytest.raises(BackboneError, match="as many entries of LoRA, of one pool"):
            backbone.run(rows, {"pooled"}, loras)


def test_graphs_are_opened_when_first_needed_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "backbones" / "tiny"
    made = make_tiny_backbone(folder.parent)
    opened: list[str] = []

    def open_one(file: Path, threads: int, kernels: Kernels) -> object:
        opened.append(file.name)
        return open_session(file, threads, kernels)

    monkeypatch.setattr(runtime, "open_session", open_one)
    backbone = Backbone(PrivateFiles(folder, made.manifest.files), made.manifest)
    row = backbone.preprocess("abc")
    lora = backbone.lora_pool(1).place([1], factors(backbone, PAIR, 1))
    backbone.run([row], {"pooled"}, [None])
    assert opened == ["model.onnx"]
    together = [
        threading.Thread(target=backbone.run, args=([row], {"pooled"}, [lora])) for _ in range(4)
    ]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert opened == ["model.onnx", "lora-1.onnx"]


def test_a_backbone_without_lora_graphs_says_so(tmp_path: Path) -> None:
    plain = make_tiny_backbone(tmp_path / "backbones", build=Build(lora=["none"]))
    assert plain.manifest.lora == ()
    assert set(plain.manifest.sites) == set(SITES)
    with pytest.raises(BackboneError, match=r"without LoRA graphs.*--lora all"):
        plain.lora_pool(4)


def test_rows_that_change_by_one_bit_beside_lora_are_noticed(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Backbone.run

    def leaky(self: Backbone, rows: Any, features: Any, loras: Any = ()) -> object:
        outputs = dict(real(self, rows, features, loras))
        if len(rows) > 1 and any(loras):
            outputs["pooled"] = np.nextafter(outputs["pooled"], np.float32(9))
        return outputs

    monkeypatch.setattr(Backbone, "run", leaky)
    with pytest.raises(BackboneError, match="cannot take LoRA: add it with --lora none"):
        check_lora_stability(backbone)
