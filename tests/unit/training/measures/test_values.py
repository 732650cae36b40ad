import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from training.measures import intervals
from training.measures.values import measure

Floats = NDArray[np.float64]


def drawn(n: int, n_targets: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Estimates with their truth, of targets in unequal units, far from zero."""
    generator = np.random.default_rng(seed)
    unit = 10.0 ** generator.integers(-3, 6, size=n_targets)
    truth = generator.normal(5, 1, size=(n, n_targets))
    return (truth + generator.normal(0, 0.5, size=truth.shape)) * unit, truth * unit


@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 99))
def test_values_are_scikit_learns(n: int, n_targets: int, seed: int) -> None:
    values, truth = drawn(n, n_targets, seed)
    names = [f"t{i}" for i in range(n_targets)]
    found = measure(values, truth, names, seed=0, n_bootstrap=20)
    assert next(iter(found)) == "r2"
    assert found["r2"].value == pytest.approx(r2_score(truth, values))
    for i, name in enumerate(names):
        suffix = "" if n_targets == 1 else f" of {name}"
        pair = truth[:, i], values[:, i]
        assert found[f"mae{suffix}"].value == pytest.approx(mean_absolute_error(*pair))
        assert found[f"rmse{suffix}"].value == pytest.approx(root_mean_squared_error(*pair))
    assert len(found) == 1 + 2 * n_targets
    for estimate in found.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_by_hand() -> None:
    truth = np.array([[1.0], [2.0], [3.0], [6.0]])
    found = measure(np.array([[1.0], [2.0], [5.0], [4.0]]), truth, ["x"], seed=0, n_bootstrap=5)
    assert list(found) == ["r2", "mae", "rmse"]
    assert found["r2"].value == pytest.approx(1 - 8 / 14)
    assert found["mae"].value == pytest.approx(1)
    assert found["rmse"].value == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize("value", [0.1, 0.0, 1e20])
def test_equal_truths_are_hit_or_not(value: float) -> None:
    truth = np.full((7, 1), value)
    assert measure(truth, truth, ["x"], seed=0)["r2"].value == 1
    missed = truth.copy()
    missed[0] += 1 + value
    found = measure(missed, truth, ["x"], seed=0)["r2"]
    assert found.value == 0
    assert (found.low, found.high) == (0, 1)  # resamples without the missed row are all hit


def test_resamples_of_one_row_are_finite() -> None:
    truth = np.array([[0.1], [0.2]])
    found = measure(np.array([[0.1], [0.3]]), truth, ["x"], seed=0)["r2"]
    # One row twice: hit, or missed with nothing to explain.
    assert (found.low, found.high) == pytest.approx((-1, 1))


def test_bootstrap_interval_is_as_wide_as_theory_says() -> None:
    values, truth = drawn(2_000, 1)
    half = 1.96 * np.abs(values - truth).std() / np.sqrt(2_000)
    found = measure(values, truth, ["x"], seed=0)["mae"]
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_the_seed_repeats_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, truth = drawn(300, 2)
    first, other = (measure(values, truth, ["x", "y"], seed=seed) for seed in (1, 2))
    monkeypatch.setattr(intervals, "CHUNK_CELLS", 300 * 7)
    again = measure(values, truth, ["x", "y"], seed=1)
    assert again["r2"].low == pytest.approx(first["r2"].low)
    assert first["mae of x"] != other["mae of x"]


@pytest.mark.parametrize(
    ("values", "truth", "message"),
    [
        (np.zeros((0, 1)), np.zeros((0, 1)), "must be"),
        (np.zeros(3), np.zeros(3), "must be"),
        (np.zeros((3, 1)), np.zeros((2, 1)), "must be"),
        (np.zeros((3, 2)), np.zeros((3, 2)), "1 names for 2 targets"),
        (np.full((3, 1), np.inf), np.zeros((3, 1)), "finite"),
        (np.zeros((3, 1)), np.full((3, 1), np.nan), "finite"),
    ],
)
def test_what_cannot_be_measured(values: Floats, truth: Floats, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(values, truth, ["x"], seed=0)
