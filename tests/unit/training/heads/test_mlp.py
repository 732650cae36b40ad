from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.training.heads.problems import (
    Floats,
    Labels,
    blobs,
    problem_of,
    problem_of_kind,
    served,
    walk,
    whole,
)
from training.heads import Logistic, Mlp, fit_head, mlp
from training.heads.base import Fold
from training.heads.mlp import EPOCHS, MAX_STEPS, batch_rows, checkpoints
from training.heads.perceptron import Perceptron
from training.tasks import Classification


@pytest.fixture(autouse=True)
def one_net(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp, "WIDTHS", (64,))
    monkeypatch.setattr(mlp, "DROPOUTS", (0.2,))


def exclusive_or(rows: int) -> tuple[Floats, Labels]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 2)).astype(np.float32)
    return x, ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(np.int64)


def test_what_no_linear_head_can_do_is_learnt() -> None:
    problem, folds = problem_of(*exclusive_or(300), 2, 0)
    linear = fit_head(Logistic(), Classification(), problem, folds)
    fit = fit_head(Mlp(), Classification(), problem, folds)
    assert linear.loss > 0.65
    assert fit.loss < 0.3
    fresh = np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]], np.float32)
    assert served(fit.head, problem, fresh).argmax(axis=1).tolist() == [0, 1, 1, 0]


def test_epochs_follow_what_there_is_to_learn() -> None:
    x, y = exclusive_or(160)
    problem, folds = problem_of(x, y, 2, 0)
    learnable = fit_head(Mlp(), Classification(), problem, folds)
    chance = np.random.default_rng(1).permutation(y)
    problem, folds = problem_of(x, chance, 2, 0)
    unlearnable = fit_head(Mlp(), Classification(), problem, folds)
    assert float(learnable.settings["epochs"]) >= 40
    assert float(unlearnable.settings["epochs"]) <= 10
    assert set(learnable.settings) == {"hidden", "dropout", "epochs"}


def test_a_checkpoint_is_the_fit_of_its_epochs() -> None:
    """What one net has learnt on the way is what a net of its own learns."""
    problem = problem_of_kind("class")
    for candidate in list(walk(Mlp(), problem, whole(problem)))[:4]:
        raw = served(Mlp().fit(problem, candidate.settings), problem, problem.x)
        np.testing.assert_allclose(raw, candidate.raw, atol=1e-5)


def test_units_of_the_values_and_of_the_features_change_nothing() -> None:
    problem = problem_of_kind("values")
    settings = {"hidden": 64, "dropout": 0.2, "epochs": 10}
    raw = served(Mlp().fit(problem, settings), problem, problem.x)
    moved = type(problem)(
        problem.x * 64 + 32, problem.y * 1000 - 5, "values", 2, problem.weights, problem.seed
    )
    other = served(Mlp().fit(moved, settings), moved, moved.x)
    np.testing.assert_allclose((other + 5) / 1000, raw, rtol=1e-4)


def test_values_of_held_out_rows_are_not_looked_at() -> None:
    problem = problem_of_kind("values")
    fold = Fold(np.arange(40), np.arange(40, 60))
    y = problem.y.copy()
    y[fold.held] = 1e9
    unseen = replace(problem, y=y)
    for one, other in zip(walk(Mlp(), problem, [fold]), walk(Mlp(), unseen, [fold]), strict=True):
        assert one.raw.tobytes() == other.raw.tobytes()


def test_the_seed_decides_and_torch_s_own_chance_is_left_alone() -> None:
    problem = problem_of_kind("class")
    settings = {"hidden": 8, "dropout": 0.5, "epochs": 2}
    before = torch.get_rng_state()
    one = Mlp().fit(problem, settings).tensors["head.weight"]
    torch.manual_seed(5)
    same = Mlp().fit(problem, settings).tensors["head.weight"]
    torch.set_rng_state(before)
    Mlp().fit(problem, settings)
    assert torch.equal(torch.get_rng_state(), before)
    assert one.tobytes() == same.tobytes()
    seeded = type(problem)(problem.x, problem.y, "class", 3, problem.weights, 1)
    assert Mlp().fit(seeded, settings).tensors["head.weight"].tobytes() != one.tobytes()


def test_nets_learn_in_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    learn = Perceptron.learn

    def watched(self: Perceptron, epochs: int, batch_rows: int) -> None:
        threads.append(torch.get_num_threads())
        learn(self, epochs, batch_rows)

    monkeypatch.setattr(Perceptron, "learn", watched)
    monkeypatch.setattr(mlp, "EPOCHS", (1, 2))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        problem, folds = problem_of(*blobs(2, 8), 2, 0)
        fit_head(Mlp(), Classification(), problem, folds)
        assert set(threads) == {1}
        assert len(threads) == 2 * 5 + 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_nets_take_no_more_cores_than_the_process_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a fleet's process, which has one: the others have jobs of their own."""
    sizes: list[int] = []

    class Watched(ThreadPoolExecutor):
        def __init__(self, size: int) -> None:
            sizes.append(size)
            super().__init__(size)

    monkeypatch.setattr(mlp, "ThreadPoolExecutor", Watched)
    monkeypatch.setattr(mlp, "EPOCHS", (1,))
    monkeypatch.setattr("backbone.cores._limit", 1)
    problem, folds = problem_of(*blobs(2, 8), 2, 0)
    fit_head(Mlp(), Classification(), problem, folds)
    assert set(sizes) == {1}


def test_heavier_rows_are_learnt_first() -> None:
    """Two rows that contradict one another: the heavier has its way."""
    x = np.ones((40, 2), np.float32)
    x[:20] = -1
    y = np.arange(40) % 2
    problem, _ = problem_of(x, y, 2, 0)
    weights = np.where(y == 1, 1.8, 0.2)
    heavy = type(problem)(x, y, "class", 2, weights, 0)
    raw = served(Mlp().fit(heavy, {"hidden": 8, "dropout": 0.0, "epochs": 100}), heavy, x)
    assert (raw.argmax(axis=1) == 1).all()


def test_many_rows_take_large_batches_and_few_epochs() -> None:
    assert [batch_rows(rows) for rows in (10, 1000, 4000, 100_000)] == [32, 32, 100, 256]
    assert checkpoints(20) == EPOCHS
    assert checkpoints(770)[-1] == 40
    assert checkpoints(10_000)[-1] == 20
    assert checkpoints(10_000_000) == EPOCHS[:1]
    for rows in (100, 3000, 50_000):
        assert checkpoints(rows)[-1] * -(-rows // batch_rows(rows)) <= MAX_STEPS
