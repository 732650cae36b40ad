from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Oracle

from tests.unit.training.heads.problems import blobs, problem_of_kind, served, walk, whole
from training.examples import of_rows
from training.heads import Ridge, fit_head
from training.heads.base import Floats, Problem, Standard
from training.heads.ridge import STRENGTHS, TARGET, Spectrum
from training.tasks import Task
from training.tasks.base import VALUES, Kind
from training.tasks.calibration import TEMPERATURES, fit_temperature


class Squares:
    """A task of values, as much of it as choosing settings needs."""

    def losses(self, raw: Floats, y: Floats, _: float) -> Floats:
        losses: Floats = ((raw - y) ** 2).mean(axis=1)
        return losses

    def calibrate(self, *_: Floats) -> float:
        return 1.0

    def thresholds(self, *_: Floats | float) -> None:
        return None


def chosen_strength(x: Any, y: Any) -> float:
    problem = Problem(x.astype(np.float32), y, VALUES, y.shape[1], np.ones(len(y)), 0)
    folds = of_rows(problem.x, y).folds(["all"] * len(y), np.arange(len(y)), 0)
    fit = fit_head(Ridge(), cast(Task[Any], Squares()), problem, folds)
    return float(fit.settings["strength"])


@pytest.mark.parametrize("kind", ["class", "labels", "values"])
@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("width", [5, 16, 200])  # fewer features than rows, and more
def test_raw_outputs_are_scikit_learns(kind: Kind, strength: float, width: int) -> None:
    problem = problem_of_kind(kind)
    generator = np.random.default_rng(0)
    x = (generator.normal(size=(60, width)) + 3).astype(np.float32)
    problem = replace(problem, x=x, weights=generator.uniform(0.2, 2, size=60))
    targets = problem.y
    if kind == "class":
        targets = np.eye(3)[targets]
    if kind != "values":
        targets = TARGET * (2 * targets - 1)
    inner = Standard.of(x).x
    oracle = Oracle(alpha=1 / strength).fit(inner, targets, sample_weight=problem.weights)
    raw = served(Ridge().fit(problem, {"strength": strength}), problem, x)
    np.testing.assert_allclose(raw, oracle.predict(inner), rtol=1e-3, atol=1e-3)
    spectrum = Spectrum.of(inner, targets, problem.weights)
    np.testing.assert_allclose(
        spectrum.predict(inner, strength), oracle.predict(inner), rtol=1e-8, atol=1e-8
    )


def test_each_fold_is_fitted_on_its_training_rows_alone() -> None:
    problem = problem_of_kind("values")
    folds = of_rows(problem.x, problem.y).folds(["all"] * 60, np.arange(60), 0)
    inner = Standard.of(problem.x).x
    for candidate in walk(Ridge(), problem, folds):
        for fold in folds:
            oracle = Oracle(alpha=1 / float(candidate.settings["strength"]))
            oracle.fit(inner[fold.train], problem.y[fold.train])
            np.testing.assert_allclose(candidate.raw[fold.held], oracle.predict(inner[fold.held]))


def test_a_weight_is_a_number_of_rows() -> None:
    problem = problem_of_kind("values")
    times = np.arange(60) % 3 + 1
    weighted = Spectrum.of(problem.x.astype(float), problem.y, times.astype(float))
    rows = np.repeat(np.arange(60), times)
    repeated = Spectrum.of(problem.x[rows].astype(float), problem.y[rows], np.ones(len(rows)))
    for one, other in zip(weighted.solve(0.5), repeated.solve(0.5), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_units_of_the_values_change_no_choice() -> None:
    problem = problem_of_kind("values")
    moved = replace(problem, y=1e6 * problem.y - 5e7)
    raw, other = (next(walk(Ridge(), each, whole(each))).raw for each in (problem, moved))
    np.testing.assert_allclose(1e6 * raw - 5e7, other)
    assert chosen_strength(problem.x, problem.y) == chosen_strength(moved.x, moved.y)


def test_what_can_be_learnt_says_how_strong_a_fit_may_be() -> None:
    generator = np.random.default_rng(0)
    x, map_ = generator.normal(size=(300, 10)), generator.normal(size=(10, 2))
    assert chosen_strength(x, x @ map_) == STRENGTHS[-1]
    assert chosen_strength(x, generator.normal(size=(300, 2))) < 0.1


@pytest.mark.parametrize(("n_classes", "spread"), [(2, 0.3), (2, 6), (77, 0.5), (77, 2)])
def test_temperatures_are_inside_their_bounds(n_classes: int, spread: float) -> None:
    x, y = blobs(n_classes, 10, spread=spread, d=64)
    problem = Problem(x, y, "class", n_classes, np.ones(len(y)), 0)
    folds = of_rows(x, y).folds([str(label) for label in y], np.arange(len(y)), 0)
    for candidate in walk(Ridge(), problem, folds):
        if 0.1 <= float(candidate.settings["strength"]) <= 10:
            temperature = fit_temperature(candidate.raw, y)
            assert 1.1 * TEMPERATURES[0] < temperature < TEMPERATURES[1] / 1.1


def test_one_value_for_all_rows_is_given_back() -> None:
    problem = problem_of_kind("values")
    constant = replace(problem, y=np.full((60, 2), 4.5))
    raw = served(Ridge().fit(constant, {"strength": 1.0}), constant, problem.x)
    np.testing.assert_allclose(raw, 4.5, rtol=1e-6)
