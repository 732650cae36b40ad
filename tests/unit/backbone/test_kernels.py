"""Which int8 kernels a backbone runs with: the fast ones only where they are exact."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backbone import Backbone, kernels, load_backbone, runtime
from backbone.kernels import PROBE_FILE, Kernels, has_exact_products, open_session
from tests.tiny import make_tiny_backbone
from tools import int8_probe
from training.backbones.packing import Build

Arrays = Sequence[NDArray[np.float32]]


class Session:
    """A session whose every output is off by `error`."""

    def __init__(self, real: Any, error: float) -> None:
        self._real = real
        self._error = np.float32(error)

    def get_inputs(self) -> Any:
        return self._real.get_inputs()

    def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> Arrays:
        return [value + self._error for value in self._real.run(names, feeds)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kernels") / "backbones"
    return root / make_tiny_backbone(root, build=Build(precision="int8")).name


def load(
    folder: Path, monkeypatch: pytest.MonkeyPatch, is_exact: bool, error: float = 0.0
) -> tuple[Backbone, list[Kernels]]:
    """A backbone where the fast kernels pass the probe if `is_exact`, and are off by `error`."""
    opened: list[Kernels] = []

    def open_one(file: Path, threads: int, kernels: Kernels) -> Any:
        opened.append(kernels)
        return Session(open_session(file, threads), error if kernels == "fast" else 0.0)

    monkeypatch.setattr(runtime, "open_session", open_one)
    monkeypatch.setattr(runtime, "fast_kernels_are_exact", lambda: is_exact)
    return load_backbone(folder), opened


def test_kernels_that_are_asked_to_be_exact_do_not_overflow() -> None:
    assert has_exact_products("exact")


def test_the_probe_sees_an_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a CPU that adds pairs of products in 16 bits."""

    class Saturating(Session):
        def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> Arrays:
            weights = int8_probe.weights().astype(np.int64)
            products = feeds["x"].astype(np.int64)[:, :, None] * weights
            pairs = products[:, :66].reshape(len(products), 33, 2, -1).sum(axis=2)
            sums = np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1) + products[:, 66]
            product = (sums - 128 * weights.sum(axis=0)).astype(np.float32)
            return [product, *super().run(names[1:], feeds)]

    real = open_session(PROBE_FILE)
    monkeypatch.setattr(kernels, "open_session", lambda *_, **__: Saturating(real, 0))
    assert not has_exact_products("fast")


def test_the_probe_is_what_its_tool_builds() -> None:
    assert PROBE_FILE.read_bytes() == int8_probe.build()


def test_fast_kernels_are_used_where_they_are_exact(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, opened = load(folder, monkeypatch, is_exact=True)
    assert backbone.kernels == "fast"
    row = backbone.preprocess("abc")
    site = backbone.manifest.sites[backbone.manifest.lora[0].sites[0]]
    a, b = np.ones((1, site.inputs), np.float32), np.ones((1, site.outputs), np.float32)
    weights = {backbone.manifest.lora[0].sites[0]: (a, b)}
    backbone.run([row], {"pooled"}, [backbone.lora_pool(1).place([1], weights)])
    assert opened == ["exact", "fast", "fast"]  # the graph with LoRA has the chosen ones too


def test_fast_kernels_that_overflow_are_not_tried(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, opened = load(folder, monkeypatch, is_exact=False)
    assert backbone.kernels == "exact"
    assert opened == ["exact"]


def test_fast_kernels_that_change_one_bit_of_a_sample_text_are_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_backbone(folder)
    backbone, _ = load(folder, monkeypatch, is_exact=True, error=1e-6)
    assert backbone.kernels == "exact"
    row = backbone.preprocess("abc")
    found, exact = (each.run([row], ["pooled"])["pooled"] for each in (backbone, expected))
    assert np.array_equal(found, exact)


def test_a_backbone_in_fp32_has_no_kernels_to_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make_tiny_backbone(tmp_path / "backbones").name
    _, opened = load(tmp_path / "backbones" / name, monkeypatch, is_exact=True)
    assert opened == ["exact"]
