import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.tasks.thresholds import PRIOR_POSITIVES, best_thresholds

Floats = NDArray[np.float64]


def expected_f1(scores: NDArray[np.float32], truth: Floats, threshold: float) -> float:
    """F1 of what reaches the threshold, each row a mixture of its truth and its score."""
    weight = truth.sum() / (truth.sum() + PRIOR_POSITIVES)
    mixed = weight * truth + (1 - weight) * scores.astype(np.float64)
    answered = scores >= np.float32(threshold)
    both = answered.sum() + mixed.sum()
    return float(2 * mixed[answered].sum() / both) if both else 1.0


def one(scores: list[float], truth: list[int]) -> float:
    column = np.array(scores, np.float32)[:, None]
    return best_thresholds(column, np.array(truth, np.float64)[:, None])[0]


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=30))
def test_no_other_threshold_is_better(rows: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in rows], np.float32)
    truth = np.array([applies for _, applies in rows], np.float64)
    (found,) = best_thresholds(scores[:, None], truth[:, None])
    assert 0 <= found <= 1
    if not scores.any():
        assert found == 0.5
        return
    best = max(expected_f1(scores, truth, float(score)) for score in scores if score > 0)
    assert expected_f1(scores, truth, found) == pytest.approx(best, abs=1e-6)


def test_many_rows_are_parted_where_their_f1_is_best() -> None:
    scores = [0.9] * 400 + [0.2] * 300 + [0.1] * 3000
    truth = [1] * 400 + [1] * 300 + [0] * 3000
    assert one(scores, truth) == pytest.approx(0.15)


def test_few_rows_do_not_outvote_their_scores() -> None:
    """The best F1 of the rows alone would have 0.825: one row that was luckily ranked first."""
    scores = [0.85, 0.8, 0.8, 0.75, 0.7] + [0.01] * 200
    truth = [1, 0, 0, 0, 0] + [0] * 200
    assert one(scores, truth) < 0.7
    many = np.repeat(np.array([scores, truth], np.float64).T, 300, axis=0)
    assert 0.8 < one(list(many[:, 0]), [int(each) for each in many[:, 1]]) < 0.85


def test_neighbouring_floats_are_parted() -> None:
    low = np.float32(0.5)
    for _ in range(4):
        high = np.nextafter(low, np.float32(1), dtype=np.float32)
        scores = np.array([[high]] * 500 + [[low]] * 5000, np.float32)
        truth = np.array([[1.0]] * 500 + [[0.0]] * 5000)
        (found,) = best_thresholds(scores, truth)
        assert low < np.float32(found) <= high
        low = high


def test_each_label_has_its_own() -> None:
    scores = np.array([[0.9, 0.3], [0.8, 0.1], [0.1, 0.2]] * 100, np.float32)
    truth = np.array([[1, 1], [1, 0], [0, 1]] * 100, np.float64)
    assert best_thresholds(scores, truth) == pytest.approx((0.45, 0.15))
