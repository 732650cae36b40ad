import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score, log_loss

from adapters.manifest import Estimate
from training.measures import classes as module
from training.measures import intervals
from training.measures.classes import measure


def drawn(n: int, n_classes: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities, and labels drawn from them: calibrated by construction."""
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.full(n_classes, 0.5), size=n)
    labels = (p.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1)
    return p, np.minimum(labels, n_classes - 1)


@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 99))
@example(2, 3, 1)  # none right: rounding put the interval's end below 0
def test_values_are_scikit_learns(n: int, n_classes: int, seed: int) -> None:
    p, labels = drawn(n, n_classes, seed)
    found = measure(p, labels, seed=0, n_bootstrap=20)
    predicted = p.argmax(axis=1)
    clipped = np.clip(p, module.LEAST_PROBABILITY, 1)
    assert found["accuracy"].value == pytest.approx((predicted == labels).mean())
    assert found["macro_f1"].value == pytest.approx(f1_score(labels, predicted, average="macro"))
    loss = -np.log(clipped[np.arange(n), labels]).mean()
    assert found["log_loss"].value == pytest.approx(loss)
    for estimate in found.values():
        assert 0 <= estimate.low <= estimate.value <= estimate.high


def test_log_loss_is_scikit_learns_where_nothing_is_cut() -> None:
    p, labels = drawn(200, 4)
    p = (p + 0.01) / 1.04
    expected = log_loss(labels, p, labels=range(4))
    assert measure(p, labels, seed=0, n_bootstrap=5)["log_loss"].value == pytest.approx(expected)


def test_calibration_error_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.62, 0.38]])
    found = measure(p, np.array([0, 0, 1, 1, 1]), seed=0, n_bootstrap=5)
    # (0.867, 0.933]: 0.9, 2 of 3 right. (0.533, 0.6]: 0.6, right. (0.6, 0.667]: 0.62, wrong.
    expected = 0.6 * abs(0.9 - 2 / 3) + 0.2 * abs(0.6 - 1) + 0.2 * abs(0.62 - 0)
    assert found["calibration_error"].value == pytest.approx(expected)


def test_calibrated_rows_have_a_small_error_and_overconfident_ones_not() -> None:
    p, labels = drawn(20_000, 3)
    sharper = p**3 / (p**3).sum(axis=1, keepdims=True)
    calibrated, overconfident = (
        measure(q, labels, seed=0, n_bootstrap=50)["calibration_error"] for q in (p, sharper)
    )
    assert calibrated.value < 0.015
    assert overconfident.low > 0.1


def test_wilson_interval_of_the_literature() -> None:
    """Newcombe 1998, table I: 81 of 263."""
    p = np.tile([1.0, 0.0], (263, 1))
    found = measure(p, (np.arange(263) >= 81).astype(int), seed=0, n_bootstrap=5)["accuracy"]
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


def test_bootstrap_interval_is_as_wide_as_theory_says() -> None:
    p, labels = drawn(2_000, 4)
    p = (p + 0.01) / 1.04
    losses = -np.log(p[np.arange(2_000), labels])
    half = 1.96 * losses.std() / np.sqrt(2_000)
    found = measure(p, labels, seed=0)["log_loss"]
    assert found.value - found.low == pytest.approx(half, rel=0.15)
    assert found.high - found.value == pytest.approx(half, rel=0.15)


def test_all_right_and_all_wrong() -> None:
    sure = np.tile([1.0, 0.0], (30, 1))
    right = measure(sure, np.zeros(30, dtype=int), seed=0)
    wrong = measure(sure, np.ones(30, dtype=int), seed=0)
    assert right["macro_f1"] == Estimate(value=1, low=1, high=1)
    assert right["log_loss"] == right["calibration_error"] == Estimate(value=0, low=0, high=0)
    assert (right["accuracy"].value, right["accuracy"].high) == (1, 1)
    assert 0.85 < right["accuracy"].low < 0.95
    assert (wrong["accuracy"].value, wrong["macro_f1"].value) == (0, 0)
    assert wrong["log_loss"].value == pytest.approx(-np.log(module.LEAST_PROBABILITY))


def test_the_seed_repeats_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    p, labels = drawn(300, 5)
    first, other = measure(p, labels, seed=1), measure(p, labels, seed=2)
    monkeypatch.setattr(intervals, "CHUNK_CELLS", 300 * 7)
    again = measure(p, labels, seed=1)
    assert again["macro_f1"].low == pytest.approx(first["macro_f1"].low)
    assert again["log_loss"].high == pytest.approx(first["log_loss"].high)
    assert first["log_loss"] != other["log_loss"]


def test_scores_of_float32_are_taken() -> None:
    p, labels = drawn(50, 77)
    found = measure(p.astype(np.float32), labels.astype(np.int32), seed=0, n_bootstrap=5)
    assert found["accuracy"].value == (p.argmax(axis=1) == labels).mean()


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        (np.ones((0, 2)), np.ones(0, dtype=int), "must be"),
        (np.ones(3), np.ones(3, dtype=int), "must be"),
        (np.full((3, 2), 0.5), np.ones(2, dtype=int), "must be"),
        (np.full((1, 2), 0.5), np.array([2]), "lie in 0..1"),
        (np.full((1, 2), 0.5), np.array([-1]), "lie in 0..1"),
        (np.full((1, 2), 0.6), np.array([0]), "sum to 1"),
        (np.array([[1.5, -0.5]]), np.array([0]), "0 or more"),
        (np.array([[np.nan, 1.0]]), np.array([0]), "sum to 1"),
    ],
)
def test_what_cannot_be_measured(
    p: NDArray[np.float64], labels: NDArray[np.int64], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure(p, labels, seed=0)
