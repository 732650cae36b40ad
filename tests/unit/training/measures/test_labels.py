import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss

from adapters.manifest import Estimate
from training.measures import intervals
from training.measures.classes import LEAST_PROBABILITY
from training.measures.labels import measure

Flags = NDArray[np.bool_]


def drawn(n: int, n_labels: int, seed: int = 0) -> tuple[NDArray[np.float64], Flags, Flags]:
    """Scores, the labels that they answer, and labels that are drawn by them."""
    generator = np.random.default_rng(seed)
    scores = generator.beta(0.5, 1.0, size=(n, n_labels))
    return scores, scores >= 0.4, generator.random((n, n_labels)) < scores


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_values_are_scikit_learns(n: int, n_labels: int, seed: int) -> None:
    scores, answered, applies = drawn(n, n_labels, seed)
    found = measure(scores, answered, applies, seed=0, n_bootstrap=20)
    assert list(found) == ["micro_f1", "macro_f1", "exact_match", "log_loss"]
    micro = f1_score(applies.ravel(), answered.ravel(), zero_division=1)
    assert found["micro_f1"].value == pytest.approx(micro)
    columns = zip(applies.T, answered.T, strict=True)
    f1 = np.array([f1_score(*pair, zero_division=0) for pair in columns])
    occurs = (applies | answered).any(axis=0)
    macro = f1[occurs].mean() if occurs.any() else 1.0
    assert found["macro_f1"].value == pytest.approx(macro)
    exact = (applies == answered).all(axis=1).mean()
    assert found["exact_match"].value == pytest.approx(exact)
    cut = np.clip(scores, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    losses = [log_loss(applies[:, i], cut[:, i], labels=[0, 1]) for i in range(n_labels)]
    assert found["log_loss"].value == pytest.approx(np.mean(losses), abs=1e-6)
    for estimate in found.values():
        assert 0 <= estimate.low <= estimate.value <= estimate.high


def test_exact_match_is_scikit_learns_accuracy_with_wilsons_interval() -> None:
    scores, answered, applies = drawn(263, 2)
    found = measure(scores, answered, applies, seed=0, n_bootstrap=5)["exact_match"]
    hits = round(accuracy_score(applies, answered) * 263)
    assert found == intervals.share(hits, 263)


def test_by_hand() -> None:
    applies = np.array([[1, 0], [1, 1], [0, 0]], dtype=bool)
    answered = np.array([[1, 1], [1, 0], [0, 0]], dtype=bool)
    scores = np.array([[0.9, 0.6], [0.8, 0.3], [0.1, 0.2]])
    found = measure(scores, answered, applies, seed=0, n_bootstrap=5)
    assert found["micro_f1"].value == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["macro_f1"].value == pytest.approx((1 + 0) / 2)
    assert found["exact_match"].value == pytest.approx(1 / 3)
    loss = -np.log([0.9, 0.4, 0.8, 0.3, 0.9, 0.8]).mean()
    assert found["log_loss"].value == pytest.approx(loss)


def test_rows_without_labels_that_are_left_without_are_right() -> None:
    none = np.zeros((20, 3), dtype=bool)
    found = measure(np.zeros((20, 3)), none, none, seed=0)
    assert found["micro_f1"] == found["macro_f1"] == Estimate(value=1, low=1, high=1)
    assert found["exact_match"].value == 1
    assert found["log_loss"].value == 0


def test_certain_and_wrong_is_cut_at_float32s_resolution() -> None:
    applies = np.ones((4, 2), dtype=bool)
    found = measure(np.zeros((4, 2), np.float32), ~applies, applies, seed=0)
    assert found["log_loss"].value == pytest.approx(-np.log(LEAST_PROBABILITY))
    assert (found["micro_f1"].value, found["exact_match"].value) == (0, 0)


def test_bootstrap_interval_is_as_wide_as_theory_says() -> None:
    scores, answered, applies = drawn(2_000, 3)
    losses = -np.log(np.clip(np.where(applies, scores, 1 - scores), LEAST_PROBABILITY, 1))
    half = 1.96 * losses.mean(axis=1).std() / np.sqrt(2_000)
    found = measure(scores, answered, applies, seed=0)["log_loss"]
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_the_seed_repeats_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(300, 5)
    first, other = measure(*rows, seed=1), measure(*rows, seed=2)
    monkeypatch.setattr(intervals, "CHUNK_CELLS", 300 * 7)
    again = measure(*rows, seed=1)
    assert again["macro_f1"].low == pytest.approx(first["macro_f1"].low)
    assert first["micro_f1"] != other["micro_f1"]


@pytest.mark.parametrize(
    ("scores", "shape", "message"),
    [
        (np.zeros((0, 2)), (0, 2), "must be"),
        (np.zeros(3), (3,), "must be"),
        (np.zeros((3, 2)), (3, 1), "must be"),
        (np.full((1, 2), 1.1), (1, 2), "lie in 0..1"),
        (np.full((1, 2), np.nan), (1, 2), "lie in 0..1"),
    ],
)
def test_what_cannot_be_measured(
    scores: NDArray[np.float64], shape: tuple[int, ...], message: str
) -> None:
    flags = np.zeros(shape, dtype=bool)
    with pytest.raises(ValueError, match=message):
        measure(scores, flags, flags, seed=0)
