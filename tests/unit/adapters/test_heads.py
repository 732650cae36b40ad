"""Every head against a plain reference, and the bits that its answers are made of."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from adapters.adapter import Adapter, read_adapter
from adapters.container import read_container
from adapters.heads import HEADS, HeadFailed
from adapters.manifest import HeadName, Metric, TaskName
from adapters.scoring import Scorer, build_scorer
from tests.support import PAIRS, Tensors, make_adapter_file, make_manifest, make_tensors

LABELS = ("a", "b", "c", "d")
WIDTH = 6
Floats = NDArray[np.float32]


def vectors(rows: int, width: int = WIDTH, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def scorer(head: HeadName, tensors: Tensors, **changes: Any) -> Scorer:
    inner = ("head.hidden.weight", "head.weight", "head.centroids", "head.vectors")
    width = next(tensors[name].shape[1] for name in inner if name in tensors)
    return build_scorer(make_manifest(LABELS, head=head, **changes), tensors, width)


def raw(head: HeadName, tensors: Tensors, feature: Floats, **changes: Any) -> Floats:
    return scorer(head, tensors, **changes).head.raw(feature)


def test_a_linear_head_is_a_product_and_a_bias() -> None:
    tensors = make_tensors(4, WIDTH)
    for feature in vectors(5):
        found = raw("linear", tensors, feature)
        assert found.dtype == np.float32
        assert found == pytest.approx(
            tensors["head.weight"] @ feature + tensors["head.bias"], abs=1e-5
        )


def test_an_mlp_has_one_hidden_layer_with_relu() -> None:
    tensors = make_tensors(4, WIDTH, head="mlp")
    cut = 0
    for feature in vectors(5):
        hidden = tensors["head.hidden.weight"] @ feature + tensors["head.hidden.bias"]
        cut += int((hidden < 0).sum())
        hidden[hidden < 0] = 0
        expected = tensors["head.weight"] @ hidden + tensors["head.bias"]
        assert raw("mlp", tensors, feature) == pytest.approx(expected, abs=1e-5)
    assert cut > 5


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_centroid_head_scales_similarities(metric: Metric) -> None:
    tensors = make_tensors(4, WIDTH, head="centroid")
    centroids = tensors["head.centroids"].astype(np.float64)
    for feature in vectors(5):
        if metric == "cosine":
            lengths = np.linalg.norm(centroids, axis=1) * np.linalg.norm(feature)
            expected = centroids @ feature / lengths
        else:
            expected = -((centroids - feature) ** 2).sum(axis=1)
        found = raw("centroid", tensors, feature, centroid={"metric": metric, "scale": 3.0})
        assert found.dtype == np.float32
        assert found == pytest.approx(3 * expected, abs=1e-5)


def test_the_nearest_centroid_is_scikit_learns() -> None:
    rows, numbers = vectors(60), np.arange(60) % 4
    reference = NearestCentroid().fit(rows, numbers)
    tensors = {"head.centroids": reference.centroids_.astype(np.float32)}
    settings = {"metric": "euclidean", "scale": 1.0}
    asked = vectors(50, seed=2)
    found = [raw("centroid", tensors, each, centroid=settings).argmax() for each in asked]
    assert found == list(reference.predict(asked))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5, 60])
def test_neighbours_vote_as_in_scikit_learn(metric: Metric, k: int) -> None:
    rows, numbers = vectors(60), np.arange(60) % 4
    reference = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(rows, numbers)
    tensors = {"head.vectors": rows, "head.vector_labels": numbers.astype(np.float32)}
    settings = {"metric": metric, "k": k, "scale": 0.0}
    for feature in vectors(50, seed=2):
        votes = np.exp(raw("knn", tensors, feature, knn=settings)) - 1 / 4
        assert votes == pytest.approx(reference.predict_proba([feature])[0] * k, abs=1e-4)


def test_a_nearer_neighbour_counts_more_where_the_scale_says_so() -> None:
    tensors = knn_tensors([[1], [3], [3.5]], [0, 1, 1])
    feature = np.zeros(1, dtype=np.float32)
    settings = {"metric": "euclidean", "k": 3, "scale": 0.5}
    votes = np.exp(raw("knn", tensors, feature, knn=settings)) - 1 / 4
    assert votes == pytest.approx([1, np.exp(-4) + np.exp(-0.5 * 11.25), 0, 0], abs=1e-6)


def knn_tensors(rows: list[list[float]], numbers: list[int]) -> Tensors:
    return {
        "head.vectors": np.array(rows, dtype=np.float32),
        "head.vector_labels": np.array(numbers, dtype=np.float32),
    }


def test_of_equally_near_neighbours_the_first_stored_votes() -> None:
    tensors = knn_tensors([[2], [-1], [1], [1]], [3, 2, 1, 1])
    for k, label in ((1, 2), (2, 1), (3, 1)):
        settings = {"metric": "euclidean", "k": k, "scale": 0.0}
        found = raw("knn", tensors, np.zeros(1, dtype=np.float32), knn=settings)
        expected = np.bincount([2, 1, 1][:k], minlength=4) + 0.25
        assert np.exp(found) == pytest.approx(expected)
        assert found.argmax() == label


@pytest.mark.parametrize("head", ["centroid", "knn"])
def test_a_vector_of_zeros_is_equally_far_by_cosine(head: HeadName) -> None:
    tensors = make_tensors(4, WIDTH, head=head)
    settings = {"centroid": {"metric": "cosine", "scale": 5.0}}
    if head == "knn":
        settings = {"knn": {"metric": "cosine", "k": 12, "scale": 5.0}}
    found = raw(head, tensors, np.zeros(WIDTH, dtype=np.float32), **settings)
    if head == "centroid":
        assert not found.any()
    else:
        votes = np.bincount(tensors["head.vector_labels"].astype(int), minlength=4)
        assert np.exp(found) == pytest.approx(votes + 0.25, rel=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_an_overflowing_row_fails_with_a_name_for_it(head: HeadName) -> None:
    tensors = make_tensors(4, WIDTH, head=head)
    for name in ("head.weight", "head.hidden.weight", "head.centroids", "head.vectors"):
        if name in tensors:
            tensors[name] = np.full_like(tensors[name], 3e38)
    with pytest.raises(HeadFailed, match="overflowed"):
        scorer(head, tensors).score(np.array([3e38, -3e38] * 3, dtype=np.float32))


TAGGERS = [head for task, head in PAIRS if task == "tagging"]


@pytest.mark.parametrize("head", TAGGERS)
@pytest.mark.parametrize("width", [1, 7, 384])
def test_a_token_has_the_same_bits_among_any_number_of_tokens(head: HeadName, width: int) -> None:
    """On this stands the batched form of `affine` and of `softmax`."""
    labels = ("O", *(f"{kind}-{number}" for number in range(8) for kind in "BI"))
    adapter = read_adapter(make_adapter_file(labels, width, task="tagging", head=head))
    tokens = vectors(300, width)
    alone = np.stack([adapter.score(token) for token in tokens])
    for count in range(1, 301):
        assert np.array_equal(adapter.score(tokens[:count].copy()), alone[:count])
    order = np.random.default_rng(3).permutation(300)
    assert np.array_equal(adapter.score(tokens[order]), alone[order])


@pytest.mark.parametrize(("task", "head"), PAIRS)
def test_where_a_vector_lies_in_memory_changes_no_bit(task: TaskName, head: HeadName) -> None:
    adapter = read_adapter(make_adapter_file(width=37, task=task, head=head))
    feature = vectors(1, 37)[0]
    expected = adapter.score(feature)
    buffer = np.zeros(37 + 16, dtype=np.float32)
    for offset in range(16):
        buffer[offset : offset + 37] = feature
        assert np.array_equal(adapter.score(buffer[offset : offset + 37]), expected)


@pytest.mark.parametrize("head", list(HEADS))
def test_how_weights_lie_in_memory_changes_no_bit(head: HeadName) -> None:
    """What training has fitted answers as the file that is written of it."""
    manifest = make_manifest(LABELS, head=head)
    tensors = make_tensors(len(LABELS), 300, head=head)
    by_columns = {name: np.asfortranarray(tensor) for name, tensor in tensors.items()}
    one, other = (build_scorer(manifest, each, 300) for each in (tensors, by_columns))
    for feature in vectors(20, 300):
        assert one.score(feature).tobytes() == other.score(feature).tobytes()


@pytest.mark.parametrize(("task", "head"), PAIRS)
def test_weights_stay_views_of_the_file(task: TaskName, head: HeadName) -> None:
    sites = {"s": (WIDTH, 3)}
    content = make_adapter_file(width=WIDTH, task=task, head=head, sites=sites)
    whole = np.frombuffer(content, dtype=np.uint8)
    arrays = list(kept_arrays(read_adapter(content)))
    stored = [name for name in read_container(content)[1] if not name.startswith("golden.")]
    views = [array for array in arrays if np.shares_memory(array, whole)]
    assert len(views) == len(stored)
    assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in views)
    own = [array for array in arrays if not np.shares_memory(array, whole)]
    assert all(array.ndim == 1 for array in own)  # a number a label or stored vector at most


def kept_arrays(adapter: Adapter) -> list[NDArray[Any]]:
    """Every array that an adapter's head, task and LoRA hold."""
    found, parts = [], [adapter.scorer.head, adapter.scorer.task]
    parts += list(adapter.lora.sites.values()) if adapter.lora else []
    while parts:
        part = parts.pop()
        values = [getattr(part, name) for name in getattr(part, "__slots__", ())]
        found += [value for value in values if isinstance(value, np.ndarray)]
        parts += [value for value in values if hasattr(value, "__slots__")]
    return found
