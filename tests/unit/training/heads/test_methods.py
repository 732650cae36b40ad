"""What holds for every way of fitting a head."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.unit.training.heads.problems import (
    blobs,
    problem_of,
    problem_of_kind,
    served,
    walk,
    whole,
)
from training.errors import InvalidData, InvalidRecipe
from training.heads import METHODS, Fit, MethodName, Problem, fit_head
from training.heads.base import Fold
from training.recipe import make_recipe
from training.tasks import Classification
from training.tasks.base import CLASS, Kind

pytestmark = pytest.mark.usefixtures("short_grid_of_nets")
NEW: list[MethodName] = ["ridge", "centroid", "knn", "mlp"]
METHOD_KINDS: list[tuple[MethodName, Kind]] = [
    (name, kind) for name in NEW for kind in sorted(METHODS[name].KINDS)
]


def fit(name: MethodName, x: Any, y: Any, n_classes: int, seed: int = 0) -> tuple[Fit, Problem]:
    problem, folds = problem_of(x, y, n_classes, seed)
    return fit_head(METHODS[name], Classification(), problem, folds), problem


def bits(fitted: Fit) -> dict[str, bytes]:
    return {key: tensor.tobytes() for key, tensor in fitted.head.tensors.items()}


def test_every_method_stands_under_its_name() -> None:
    assert all(name == method.NAME for name, method in METHODS.items())
    assert len(METHODS) == 5


@pytest.mark.parametrize(("name", "kind"), METHOD_KINDS)
def test_the_served_head_gives_the_raw_outputs_that_were_judged(
    name: MethodName, kind: Kind
) -> None:
    problem = problem_of_kind(kind)
    candidates = list(walk(METHODS[name], problem, whole(problem)))
    assert 3 < len(candidates) <= METHODS[name].candidates(problem)
    for candidate in candidates[:: max(1, len(candidates) // 6)]:
        head = METHODS[name].fit(problem, candidate.settings)
        size = max(1.0, float(np.abs(candidate.raw).max()))
        raw = served(head, problem, problem.x)
        np.testing.assert_allclose(raw, candidate.raw, rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("name", NEW)
def test_blobs_are_told_apart(name: MethodName) -> None:
    x, y = blobs(4, 12)
    fitted, problem = fit(name, x, y, 4)
    assert (served(fitted.head, problem, x).argmax(axis=1) == y).mean() > 0.95
    assert fitted.loss < 0.5 * np.log(4)


@pytest.mark.parametrize("name", NEW)
def test_the_same_call_gives_the_same_bits_on_any_number_of_cores(
    name: MethodName, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = blobs(3, 12, spread=2)
    first, _ = fit(name, x, y, 3, seed=7)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    second, _ = fit(name, x, y, 3, seed=7)
    assert bits(first) == bits(second)
    assert (first.loss, first.temperature) == (second.loss, second.temperature)
    assert first.settings == second.settings


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize(("n_classes", "rows"), [(2, 2), (60, 2)])
def test_two_rows_a_class(name: MethodName, n_classes: int, rows: int) -> None:
    x, y = blobs(n_classes, rows, spread=0.3, d=32)
    fitted, problem = fit(name, x, y, n_classes)
    assert (served(fitted.head, problem, x).argmax(axis=1) == y).mean() > 0.9


@pytest.mark.parametrize("name", NEW)
def test_a_fold_without_a_class_and_with_more_classes_than_rows(name: MethodName) -> None:
    x, y = blobs(6, 2)
    problem, _ = problem_of(x, y, 6, 0)
    few = np.array([np.flatnonzero(y == label)[0] for label in range(4)])
    folds = [Fold(few, np.setdiff1d(np.arange(12), few))]
    for candidate in walk(METHODS[name], problem, folds):
        assert np.isfinite(candidate.raw[folds[0].held]).all()
        assert np.isnan(candidate.raw[few]).all()


@pytest.mark.parametrize("name", NEW)
def test_features_that_are_constant_or_all_equal(name: MethodName) -> None:
    x, y = blobs(3, 8)
    x[:, 3] = 5.0
    fitted, problem = fit(name, x, y, 3)
    assert (served(fitted.head, problem, x).argmax(axis=1) == y).mean() > 0.9
    equal, problem = fit(name, np.ones((12, 4), np.float32), np.arange(12) % 3, 3)
    assert np.isfinite(served(equal.head, problem, problem.x)).all()
    assert equal.loss > 0.9 * np.log(3)


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite(name: MethodName, value: float) -> None:
    x, y = blobs(2, 5)
    x[3, 2] = value
    with pytest.raises(InvalidData, match="NaN or infinity"):
        fit(name, x, y, 2)


@pytest.mark.parametrize("name", NEW)
def test_scale_and_offset_of_the_features(name: MethodName) -> None:
    """Tiny and huge features give finite heads that tell classes apart."""
    x, y = blobs(3, 10)
    for factor in (1e-4, 1e4):
        fitted, problem = fit(name, (factor * x).astype(np.float32), y, 3)
        raw = served(fitted.head, problem, problem.x)
        assert (raw.argmax(axis=1) == y).mean() > 0.9


@pytest.mark.parametrize("name", NEW)
def test_progress_keeps_to_its_total(name: MethodName) -> None:
    x, y = blobs(3, 6)
    problem, folds = problem_of(x, y, 3, 0)
    seen: list[tuple[int, int]] = []
    fit_head(METHODS[name], Classification(), problem, folds, lambda *pair: seen.append(pair))
    assert all(done <= total for done, total in seen)
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize(("name", "kind"), [pair for pair in METHOD_KINDS if pair[0] != "knn"])
def test_rows_of_weight_nothing_teach_nothing(name: MethodName, kind: Kind) -> None:
    problem = problem_of_kind(kind)
    silent = np.arange(len(problem.x)) % 3 == 0
    other = problem.y.copy()
    other[silent] = (other[silent] + 1) % 3 if kind == CLASS else 1 - other[silent]
    weights = np.where(silent, 0.0, 1.5)
    settings = list(walk(METHODS[name], problem, whole(problem)))[2].settings

    def raw(y: Any, weights: Any) -> Any:
        taught = replace(problem, y=y, weights=weights)
        return served(METHODS[name].fit(taught, settings), taught, problem.x)

    np.testing.assert_allclose(raw(problem.y, weights), raw(other, weights), rtol=1e-6)
    ones = np.ones(len(weights))
    assert np.abs(raw(problem.y, ones) - raw(other, ones)).max() > 0.01


def test_a_recipe_refuses_weights_that_a_head_cannot_take() -> None:
    with pytest.raises(
        InvalidRecipe, match=r"weights must be none.*logistic, ridge, centroid, mlp"
    ):
        make_recipe({"head": "knn", "weights": "balanced"})
    assert make_recipe({"head": "centroid", "weights": "balanced"}).method == "centroid"


def test_heads_are_imported_without_torch() -> None:
    code = "import sys, training.heads, training.recipe; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
