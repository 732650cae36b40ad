import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from adapters.adapter import build_adapter, read_adapter, read_adapter_file
from adapters.container import read_container, write_container
from adapters.errors import InvalidAdapter
from adapters.heads import LinearHead
from adapters.manifest import Estimate, Measured, Training, parse_manifest
from tests.support import make_adapter_file, make_manifest, make_tensors

TRAINING = Training(
    rows=10_003,
    rows_per_label=(130,) * 77,
    fingerprint="a" * 64,
    seed=0,
    settings={"strength": 1.0, "split": "given"},
)
_FIGURES = {
    name: Estimate(value=0.9, low=0.8, high=1.0)
    for name in ("accuracy", "macro_f1", "log_loss", "calibration_error")
}
MEASURED = Measured(
    rows=3080, adapter=_FIGURES, baselines={"majority": _FIGURES, "tfidf": _FIGURES}
)


def test_what_is_written_is_what_is_read() -> None:
    content = make_adapter_file(labels=("a", "b", "c"), width=5)
    adapter = read_adapter(content)
    assert adapter.digest == hashlib.sha256(content).hexdigest()
    assert adapter.manifest == make_manifest(("a", "b", "c"))
    assert (adapter.width, adapter.size) == (5, len(content))
    assert isinstance(adapter.scorer.head, LinearHead)
    assert np.array_equal(adapter.scorer.head.weight, make_tensors(3, 5)["head.weight"])


def test_the_same_adapter_is_the_same_bytes() -> None:
    assert make_adapter_file(seed=3) == make_adapter_file(seed=3)
    assert make_adapter_file(seed=3) != make_adapter_file(seed=4)


def test_the_safetensors_library_reads_the_file_too() -> None:
    tensors = safetensors.numpy.load(make_adapter_file())
    assert set(tensors) == {"head.weight", "head.bias", "golden.features", "golden.scores"}


def test_tensors_are_views_not_copies() -> None:
    _, tensors = read_container(make_adapter_file())
    assert all(not tensor.flags.owndata for tensor in tensors.values())


def test_values_are_proven_relative_to_their_size() -> None:
    """Beside 1e6 the rounding of float32 alone is 0.06."""
    manifest, tensors = make_manifest(task="regression"), make_tensors()
    tensors["head.bias"] = np.array([1e6, 1], dtype=np.float32)
    golden = np.ones((1, 8), dtype=np.float32)
    parts = read_container(build_adapter(manifest, tensors, golden))[1]
    scores = parts["golden.scores"]
    for gap, is_near in (([50, 0], True), ([200, 0], False), ([0, 0.01], False)):
        changed = {**parts, "golden.scores": scores + np.array([gap], dtype=np.float32)}
        content = write_container(manifest.to_json(), changed)
        if is_near:
            read_adapter(content)
        else:
            with pytest.raises(InvalidAdapter, match=r"golden row 0.*differ"):
                read_adapter(content)


def test_a_resident_adapter_costs_what_it_weighs() -> None:
    labels = tuple(f"label number {number}" for number in range(77))
    content = make_adapter_file(labels, 384, training=TRAINING, measured=MEASURED)
    adapter = read_adapter(content)
    assert (adapter.manifest.training, adapter.manifest.measured) == (TRAINING, MEASURED)
    tracemalloc.start()
    try:
        kept = [read_adapter(bytes(bytearray(content))).for_serving() for _ in range(20)]
        each = tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()
    assert kept[0].manifest.labels == labels
    assert each < len(content) + 8_000


def test_building_proves_the_file() -> None:
    tensors = {**make_tensors(), "head.bias": np.zeros(3, dtype=np.float32)}
    with pytest.raises(InvalidAdapter, match=r"head\.bias.*shape \[3\]"):
        build_adapter(make_manifest(), tensors, np.zeros((1, 8), dtype=np.float32))


def test_manifest_json_round_trips() -> None:
    manifest = make_manifest(("größer", "小さい", "a b"))
    assert parse_manifest(manifest.to_json()) == manifest


def test_a_file_of_ours_with_other_tensors_is_refused_by_name() -> None:
    content = write_container(make_manifest().to_json(), make_tensors())
    with pytest.raises(InvalidAdapter, match=r"missing: \['golden\.features', 'golden\.scores'\]"):
        read_adapter(content)


def test_files_that_are_no_adapters_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(InvalidAdapter, match=r"cannot read .*x\.safetensors"):
        read_adapter_file(path)
    path.write_bytes(b"hello")
    with pytest.raises(InvalidAdapter, match=r"x\.safetensors: not an adapter file"):
        read_adapter_file(path)
