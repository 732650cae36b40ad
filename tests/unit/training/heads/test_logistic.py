import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from tests.unit.training.heads.problems import Floats, Labels, blobs, problem_of
from training.errors import InvalidData
from training.heads import Logistic, fit_head
from training.heads import logistic as module
from training.heads.base import Candidate
from training.heads.logistic import STRENGTHS
from training.heads.select import quiet_solvers
from training.tasks import Classification
from training.tasks.calibration import TEMPERATURES, fit_temperature


@dataclass(frozen=True)
class LinearFit:
    weight: Floats
    bias: Floats
    temperature: float
    strength: float
    log_loss: float
    folds: int
    converged: bool


def fit_linear(
    features: Floats,
    labels: Labels,
    n_classes: int,
    *,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> LinearFit:
    """The whole way: folds, strength, temperature, fit."""
    problem, folds = problem_of(features, labels, n_classes, seed)
    fit = fit_head(Logistic(), Classification(), problem, folds, progress)
    tensors = fit.head.tensors
    return LinearFit(
        tensors["head.weight"],
        tensors["head.bias"],
        fit.temperature,
        float(fit.settings["strength"]),
        fit.loss,
        fit.folds,
        fit.head.converged,
    )


def scores(fit: LinearFit, features: Floats) -> NDArray[np.float64]:
    p: NDArray[np.float64] = softmax((features @ fit.weight.T + fit.bias) / fit.temperature, axis=1)
    return p


def standardised(features: Floats) -> NDArray[np.float64]:
    x = features.astype(np.float64) - features.astype(np.float64).mean(axis=0)
    scaled: NDArray[np.float64] = x / np.sqrt((x**2).sum(axis=1).mean())
    return scaled


@pytest.mark.parametrize("n_classes", [2, 4])
def test_probabilities_are_scikit_learns(n_classes: int) -> None:
    features, labels = blobs(n_classes, 40, spread=2)
    fit = fit_linear(features, labels, n_classes, seed=0)
    x = standardised(features)
    oracle = LogisticRegression(C=fit.strength, tol=1e-9, max_iter=10_000).fit(x, labels)
    raw = softmax(features @ fit.weight.T + fit.bias, axis=1)
    assert fit.weight.shape == (n_classes, 16)
    assert [str(fit.weight.dtype), str(fit.bias.dtype)] == ["float32", "float32"]
    assert fit.converged
    np.testing.assert_allclose(raw, oracle.predict_proba(x), atol=1e-4)


@pytest.mark.parametrize("seen", [(0, 1, 2, 4), (1, 3), (2,)])
def test_a_class_of_no_row_is_never_the_answer(seen: tuple[int, ...]) -> None:
    features, labels = blobs(len(seen), 30, spread=2)
    problem, _ = problem_of(features, np.array(seen)[labels], 5, 0)
    tensors = Logistic().fit(problem, {"strength": 3.0}).tensors
    anywhere = np.random.default_rng(1).normal(scale=5, size=(2_000, 16))
    raw = anywhere @ tensors["head.weight"].T + tensors["head.bias"]
    assert raw.shape == (2_000, 5)
    assert set(raw.argmax(axis=1)) == set(seen)
    if len(seen) > 1:
        alone = problem_of(features, labels, len(seen), 0)[0]
        expected = Logistic().fit(alone, {"strength": 3.0}).tensors
        assert np.array_equal(tensors["head.weight"][list(seen)], expected["head.weight"])
        assert np.array_equal(tensors["head.bias"][list(seen)], expected["head.bias"])


def test_many_rows_are_fitted_less_precisely_and_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = blobs(4, 100, spread=3)
    problem, _ = problem_of(features, labels, 4, 0)
    precise = Logistic().fit(problem, {"strength": 3.0})
    monkeypatch.setattr(module, "MANY_VECTORS", 300)
    quick = Logistic().fit(problem, {"strength": 3.0})
    assert quick.converged
    one, other = (each.tensors["head.weight"] for each in (precise, quick))
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, atol=1e-3)


@dataclass(frozen=True)
class Trial:
    strength: float
    temperature: float
    log_loss: float


def walk(features: Floats, labels: Labels, n_classes: int, seed: int = 0) -> list[Trial]:
    """Every strength of the grid with its out-of-fold loss."""
    problem, folds = problem_of(features, labels, n_classes, seed)
    task, trials = Classification(), []
    with quiet_solvers():
        for candidate in Logistic().path(problem, folds, lambda: None):
            temperature = task.calibrate(candidate.raw, labels)
            loss = task.losses(candidate.raw, labels, temperature).mean()
            strength = float(candidate.settings["strength"])
            trials.append(Trial(strength, temperature, float(loss)))
    return trials


def test_the_path_agrees_with_cold_fits() -> None:
    features, labels = blobs(5, 40, spread=2.5)
    x = standardised(features)
    _, folds = problem_of(features, labels, 5, seed=3)
    for trial in walk(features, labels, 5, seed=3):
        logits = np.empty((len(labels), 5))
        for fold in folds:
            model = LogisticRegression(C=trial.strength, tol=1e-8, max_iter=10_000)
            model.fit(x[fold.train], labels[fold.train])
            logits[fold.held] = model.decision_function(x[fold.held])
        losses = -log_softmax(logits / trial.temperature, axis=1)[np.arange(len(labels)), labels]
        assert trial.log_loss == pytest.approx(losses.mean(), abs=2e-3)


def test_no_step_of_the_path_stops_where_it_starts() -> None:
    """Many rows make the gradient at each step's start small; a fixed tolerance ends there."""
    features, labels = blobs(3, 1500, spread=1.5, d=8)
    trials = walk(features, labels, 3)
    assert len({trial.log_loss for trial in trials}) == len(trials) >= 5


def test_the_least_loss_is_chosen() -> None:
    features, labels = blobs(5, 40, spread=2.5)
    fit = fit_linear(features, labels, 5, seed=0)
    trials = walk(features, labels, 5)
    best = min(trials, key=lambda trial: trial.log_loss)
    assert Trial(fit.strength, fit.temperature, fit.log_loss) == best
    assert len({trial.log_loss for trial in trials}) > 1


def test_the_same_call_gives_the_same_bits_on_any_number_of_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, labels = blobs(4, 20, spread=2)
    first = fit_linear(features, labels, 4, seed=7)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    second = fit_linear(features, labels, 4, seed=7)
    assert first.weight.tobytes() == second.weight.tobytes()
    assert first.bias.tobytes() == second.bias.tobytes()
    assert (first.log_loss, first.temperature) == (second.log_loss, second.temperature)


def test_the_seed_draws_the_folds() -> None:
    features, labels = blobs(4, 20, spread=2)
    one, two = (fit_linear(features, labels, 4, seed=seed) for seed in (1, 2))
    assert one.log_loss != two.log_loss


def test_scale_and_offset_of_the_features_change_nothing() -> None:
    features, labels = blobs(4, 20, spread=2)
    moved = (features * 64 + 500).astype(np.float32)
    fit, other = (fit_linear(x, labels, 4, seed=0) for x in (features, moved))
    assert fit.strength == other.strength
    np.testing.assert_allclose(scores(fit, features), scores(other, moved), atol=2e-3)


@pytest.mark.parametrize(("rows", "folds"), [(2, 2), (3, 3), (5, 5), (9, 5)])
def test_folds_follow_the_smallest_class(rows: int, folds: int) -> None:
    features, labels = blobs(3, rows)
    more, more_labels = blobs(3, 12, seed=1)
    x = np.concatenate([features, more[more_labels != 0]])
    y = np.concatenate([labels, more_labels[more_labels != 0]])
    assert fit_linear(x, y, 3, seed=0).folds == folds


@pytest.mark.parametrize(("n_classes", "rows"), [(2, 2), (2, 5), (150, 2), (150, 5)])
def test_few_rows_of_two_and_of_many_classes(n_classes: int, rows: int) -> None:
    features, labels = blobs(n_classes, rows, spread=0.5, d=32)
    fit = fit_linear(features, labels, n_classes, seed=0)
    assert (scores(fit, features).argmax(axis=1) == labels).mean() > 0.95
    assert np.isfinite(fit.weight).all()


def test_separable_rows_do_not_make_a_head_certain() -> None:
    features, labels = blobs(2, 5, spread=0.01)
    fit = fit_linear(features, labels, 2, seed=0)
    confidence = scores(fit, features).max(axis=1)
    assert TEMPERATURES[0] < fit.temperature < TEMPERATURES[1]
    # Ten of ten right: about 11 in 12 by the rule of succession, certainly not 999 in 1000.
    assert 0.8 < confidence.mean() < 0.99


def test_labels_of_chance_leave_a_head_unsure() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(120, 300)).astype(np.float32)
    labels = np.arange(120) % 3
    fit = fit_linear(features, labels, 3, seed=0)
    # Out of fold: 300 dimensions can learn 120 rows by heart, and this loss must not show it.
    assert fit.log_loss > 0.99 * np.log(3)
    assert fit.temperature > 5
    assert scores(fit, features).max(axis=1).mean() < 0.6


def test_a_clear_rise_ends_the_path() -> None:
    features, labels = blobs(3, 200, spread=6)
    problem, folds = problem_of(features, labels, 3, 0)
    walked: list[float] = []

    class Watched(Logistic):
        def path(self, *args: Any) -> Iterator[Candidate]:
            for candidate in super().path(*args):
                walked.append(float(candidate.settings["strength"]))
                yield candidate

    fit = fit_head(Watched(), Classification(), problem, folds)
    assert tuple(walked) == STRENGTHS[: len(walked)]
    assert len(walked) < len(STRENGTHS)
    assert float(fit.settings["strength"]) < walked[-1]


def test_equal_features_still_give_a_head() -> None:
    fit = fit_linear(np.ones((12, 4), np.float32), np.arange(12) % 3, 3, seed=0)
    np.testing.assert_allclose(scores(fit, np.ones((1, 4), np.float32)), 1 / 3, atol=1e-3)


def test_a_solver_cut_short_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = blobs(3, 20)
    monkeypatch.setattr(module, "MAX_ITERATIONS", 1)
    assert not fit_linear(features, labels, 3, seed=0).converged


def test_progress_grows_to_its_total() -> None:
    features, labels = blobs(3, 20, spread=6)
    seen: list[tuple[int, int]] = []
    fit_linear(features, labels, 3, seed=0, progress=lambda done, total: seen.append((done, total)))
    done = [pair[0] for pair in seen]
    assert {total for _, total in seen} == {len(STRENGTHS) * 5 + 1}
    assert done == sorted(set(done))
    assert (done[0], done[-1]) == (1, len(STRENGTHS) * 5 + 1)


def test_folds_side_by_side_use_one_thread_each() -> None:
    def blas_threads() -> set[int]:
        return {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}

    def record(done: int, total: int) -> None:
        if done < total:
            during.update(blas_threads())

    features, labels = blobs(2, 5)
    during: set[int] = set()
    with threadpool_limits(2):
        fit_linear(features, labels, 2, seed=0, progress=record)
        assert during == {1}
        assert blas_threads() == {2}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite(value: float) -> None:
    features, labels = blobs(2, 5)
    features[3, 2] = value
    with pytest.raises(InvalidData, match="NaN or infinity"):
        fit_linear(features, labels, 2, seed=0)


@pytest.mark.parametrize("truth", [0.25, 1.0, 4.0])
def test_a_known_temperature_is_found(truth: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=3 * truth, size=(20_000, 5))
    labels = (logits / truth + generator.gumbel(size=logits.shape)).argmax(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(truth, rel=0.03)


def test_temperatures_keep_to_their_bounds() -> None:
    wrong = np.tile([100.0, 0.0], (50, 1))
    assert fit_temperature(wrong, np.ones(50, dtype=int)) == pytest.approx(20, rel=1e-3)
    right = np.tile([1e-3, 0.0], (50, 1))
    assert fit_temperature(right, np.zeros(50, dtype=int)) == pytest.approx(0.05, rel=1e-3)
