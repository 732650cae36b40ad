import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from adapters.heads.similarity import Similarity
from adapters.manifest import Metric
from tests.unit.training.heads.problems import Floats, blobs, problem_of, served, walk, whole
from training.errors import TrainingError
from training.heads import Knn, Problem, fit_head, knn
from training.heads.base import Fold
from training.heads.knn import COUNTS, check_size
from training.heads.space import METRICS
from training.tasks import Classification


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 3, 10])
def test_votes_are_scikit_learns(metric: Metric, k: int) -> None:
    x, y = blobs(4, 15, spread=2)
    problem, folds = problem_of(x, y, 4, 0)
    (candidate,) = (
        each
        for each in walk(Knn(), problem, folds)
        if each.settings == {"metric": metric, "k": k, "scale": 0.0}
    )
    for fold in folds:
        oracle = KNeighborsClassifier(k, metric=metric).fit(x[fold.train], y[fold.train])
        votes = k * oracle.predict_proba(x[fold.held])
        np.testing.assert_allclose(np.exp(candidate.raw[fold.held]) - 0.25, votes, atol=1e-9)


def test_out_of_fold_raw_outputs_are_those_of_the_head_on_the_rest() -> None:
    """With doubled rows, whose equal distances the first stored wins."""
    x, y = blobs(3, 20, spread=3, d=4)
    x, y = np.concatenate([x, x, np.zeros_like(x[:2])]), np.concatenate([y, (y + 1) % 3, [0, 1]])
    problem, folds = problem_of(x, y, 3, 0)
    for candidate in walk(Knn(), problem, folds):
        rest = problem.take(folds[0].train)
        head = Knn().fit(rest, candidate.settings)
        raw = served(head, rest, x[folds[0].held])
        np.testing.assert_allclose(raw, candidate.raw[folds[0].held], atol=2e-5)


def test_k_keeps_to_the_rows_of_the_smallest_fold() -> None:
    x, y = blobs(2, 4)
    problem, _ = problem_of(x, y, 2, 0)
    folds = [Fold(np.arange(5), np.arange(5, 8)), Fold(np.arange(4, 8), np.arange(4))]
    counts = {int(each.settings["k"]) for each in walk(Knn(), problem, folds)}
    assert counts == {1, 3}


def test_clean_labels_take_few_neighbours_and_noisy_ones_many() -> None:
    """A chequerboard needs the nearest alone; labels that are often wrong need a vote."""
    generator = np.random.default_rng(0)
    x = generator.uniform(0, 6, size=(900, 2)).astype(np.float32)
    y = (np.floor(x).sum(axis=1) % 2).astype(np.int64)
    problem, folds = problem_of(x, y, 2, 0)
    clean = fit_head(Knn(), Classification(), problem, folds)
    noisy_y = np.where(generator.random(900) < 0.35, 1 - (x[:, 0] > 3), x[:, 0] > 3).astype(int)
    problem, folds = problem_of(x, noisy_y, 2, 0)
    noisy = fit_head(Knn(), Classification(), problem, folds)
    assert clean.settings["metric"] == "euclidean"
    assert float(clean.settings["k"]) <= 10
    assert float(noisy.settings["k"]) == COUNTS[-1]


@pytest.mark.parametrize("metric", METRICS)
def test_golden_vectors_have_a_clear_last_neighbour(metric: Metric) -> None:
    x, y = blobs(3, 30)
    x[40:50] = x[30:40]  # whose first and second neighbour are equally near
    problem, _ = problem_of(x, y, 3, 0)
    head = Knn().fit(problem, {"metric": metric, "k": 1, "scale": 0.0})
    assert head.golden is not None
    assert len(head.golden) == 4

    def gap(vector: Floats) -> float:
        near = np.sort(Similarity.build(x, metric).of(vector))
        return float(near[-1] - near[-2])

    gaps = np.sort([gap(each) for each in x])
    assert gaps[:20] == pytest.approx(0, abs=1e-6)
    assert sorted(gap(each) for each in head.golden) == pytest.approx(gaps[-4:], rel=1e-4)


def test_golden_vectors_where_all_rows_are_neighbours() -> None:
    x, y = blobs(2, 2)
    problem, _ = problem_of(x, y, 2, 0)
    head = Knn().fit(problem, {"metric": "cosine", "k": 4, "scale": 1.0})
    np.testing.assert_array_equal(head.golden, x)


def test_too_many_rows_are_refused_before_work() -> None:
    with pytest.raises(TrainingError, match=r"20,001 of width 8, and 20,000 are.*centroid"):
        check_size(np.zeros((20_001, 8), np.float32))
    with pytest.raises(TrainingError, match=r"13,000 of width 1,024, and 12,288 are"):
        check_size(np.zeros((13_000, 1024), np.float32))
    check_size(np.zeros((12_288, 1024), np.float32))
    check_size(np.zeros((20_000, 8), np.float32))


def test_the_limit_holds_for_every_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "MAX_VECTORS", 5)
    problem = Problem(*blobs(2, 3), "class", 2, np.ones(6), 0)
    with pytest.raises(TrainingError, match="5 are allowed"):
        Knn().paths(problem, whole(problem), lambda: None)
    with pytest.raises(TrainingError, match="5 are allowed"):
        Knn().fit(problem, {"metric": "cosine", "k": 1, "scale": 0.0})
