import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from tests.unit.training.heads.problems import blobs, problem_of, served, walk
from training.heads import Centroid, Problem, fit_head
from training.heads.centroid import centroids
from training.tasks import Classification
from training.tasks.calibration import TEMPERATURES, fit_temperature


def test_centroids_by_hand() -> None:
    """Weights 1, 3 and 2; the mean of all is (0.5, 6); a prior of 4 rows is as heavy as class 0."""
    x = np.array([[0.0, 0.0], [0.0, 8.0], [1.5, 6.0]])
    weights = np.array([1.0, 3.0, 2.0])
    problem = Problem(x.astype(np.float32), np.array([0, 0, 1]), "class", 3, weights, 0)
    plain = [[0.0, 6.0], [1.5, 6.0], [0.5, 6.0]]  # the third has no row: the mean of all
    np.testing.assert_allclose(centroids(x, problem, 0.0), plain)
    drawn = [[0.25, 6.0], [(2 * 1.5 + 4 * 0.5) / 6, 6.0], [0.5, 6.0]]
    np.testing.assert_allclose(centroids(x, problem, 4.0), drawn)


def test_answers_are_scikit_learns_nearest_centroid() -> None:
    x, y = blobs(5, 12, spread=2)
    problem, _ = problem_of(x, y, 5, 0)
    head = Centroid().fit(problem, {"metric": "euclidean", "prior": 0.0})
    oracle = NearestCentroid().fit(x, y)
    np.testing.assert_allclose(head.tensors["head.centroids"], oracle.centroids_, atol=1e-6)
    raw = served(head, problem, x)
    assert (raw.argmax(axis=1) == oracle.predict(x)).all()


def test_cosine_centroids_are_means_of_directions() -> None:
    """A long vector says no more of its class than a short one."""
    x = np.array([[100, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    problem, _ = problem_of(x, np.array([0, 0, 1, 1]), 2, 0)
    head = Centroid().fit(problem, {"metric": "cosine", "prior": 0.0})
    np.testing.assert_allclose(head.tensors["head.centroids"], [[0.5, 0.5], [-0.5, -0.5]])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_metric_that_tells_classes_apart_is_chosen(metric: str) -> None:
    generator = np.random.default_rng(0)
    y = np.arange(120) % 2
    if metric == "cosine":  # two directions, at any length
        directions = np.array([[1.0, 0.2, 0], [0.2, 1.0, 0]])[y]
        x = directions * generator.lognormal(0, 1.5, size=(120, 1))
    else:  # one direction, at two lengths
        x = np.array([[1.0, 1, 1], [2.0, 2, 2]])[y]
    x = x + 0.05 * generator.normal(size=x.shape)
    problem, folds = problem_of(x.astype(np.float32), y, 2, 0)
    fit = fit_head(Centroid(), Classification(), problem, folds)
    assert fit.settings["metric"] == metric


@pytest.mark.parametrize(
    ("n_classes", "spread", "factor"),
    [(2, 0.5, 1.0), (2, 4.0, 1.0), (150, 0.5, 1.0), (150, 2.0, 1e-3), (30, 1.0, 1e3)],
)
def test_temperatures_are_inside_their_bounds(n_classes: int, spread: float, factor: float) -> None:
    x, y = blobs(n_classes, 8, spread=spread, d=64)
    problem, folds = problem_of((factor * x).astype(np.float32), y, n_classes, 0)
    for candidate in walk(Centroid(), problem, folds):
        temperature = fit_temperature(candidate.raw, y)
        assert 1.2 * TEMPERATURES[0] < temperature < TEMPERATURES[1] / 1.2


def test_a_prior_is_chosen_where_some_centroids_are_noisier_than_others() -> None:
    """Means of three noisy rows lie far out, and further from every row than means of sixty."""
    generator = np.random.default_rng(1)
    y = np.repeat(np.arange(4), [3, 3, 60, 60])
    centres, noise = generator.normal(size=(4, 64)), generator.normal(size=(len(y), 64))
    problem, folds = problem_of((centres[y] + 3 * noise).astype(np.float32), y, 4, 0)
    fit = fit_head(Centroid(), Classification(), problem, folds)
    assert float(fit.settings["prior"]) > 0
