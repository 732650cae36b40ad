"""Classes spread along near vectors; shares are brought about where asked."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.training.heads.problems import blobs
from training import spreading
from training.heads.base import Floats
from training.spreading import balanced, neighbour_graph, spread


def rings(rows: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Two arcs one inside the other: near is not the same as on one side of a plane."""
    angles = np.linspace(0, np.pi, rows)
    outer = np.stack([np.cos(angles), np.sin(angles), 0.1 * np.ones(rows)], axis=1)
    inner = np.stack([1 - np.cos(angles), 0.4 - np.sin(angles), -0.1 * np.ones(rows)], axis=1)
    x = np.concatenate([outer, inner]).astype(np.float32)
    return x, np.repeat([0, 1], rows)


def start_of(y: NDArray[np.int64], known: list[int]) -> Floats:
    """The known vectors' classes, and nothing of the others."""
    start = np.full((len(y), y.max() + 1), 1 / (y.max() + 1) / 100)
    start[known] = np.eye(y.max() + 1)[y[known]]
    return start


def test_a_label_follows_its_neighbours_where_no_plane_does() -> None:
    x, y = rings(150)
    lifted = np.concatenate([x, 2 * x[:, :1] * x[:, 1:2]], axis=1).astype(np.float32)
    found = spread(neighbour_graph(lifted), start_of(y, [20, 75, 130, 170, 225, 280]))
    assert (found.argmax(axis=1) == y).mean() > 0.95
    assert found.sum(axis=1) == pytest.approx(1)


def test_few_labels_reach_all_of_their_kind() -> None:
    x, y = blobs(5, 80, spread=0.5)
    known = [int(np.flatnonzero(y == label)[0]) for label in range(5)]
    found = spread(neighbour_graph(x), start_of(y, known))
    assert (found.argmax(axis=1) == y).mean() > 0.95


def test_the_graph_is_symmetric_and_none_is_its_own_neighbour() -> None:
    x, _ = blobs(3, 30)
    graph = neighbour_graph(x)
    dense = graph.toarray()
    assert dense == pytest.approx(dense.T)
    assert not dense.diagonal().any()
    assert ((dense > 0).sum(axis=1) >= spreading.NEIGHBOURS).all()


def test_parts_of_the_graph_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = blobs(3, 30)
    whole = neighbour_graph(x).toarray()
    monkeypatch.setattr(spreading, "_SIMILARITIES_AT_ONCE", 7 * len(x))
    assert neighbour_graph(x).toarray() == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("rows", [2, 3])
def test_fewer_vectors_than_neighbours(rows: int) -> None:
    x = np.eye(rows, 4, dtype=np.float32)
    found = spread(neighbour_graph(x), np.eye(rows))
    assert found.argmax(axis=1).tolist() == list(range(rows))


def test_equal_vectors_and_zeros_are_no_trouble() -> None:
    x = np.zeros((30, 4), dtype=np.float32)
    found = spread(neighbour_graph(x), np.full((30, 2), 0.5))
    assert found == pytest.approx(0.5)


def test_shares_are_brought_about() -> None:
    generator = np.random.default_rng(0)
    found = generator.dirichlet([8, 1, 1], size=400)
    shares = np.array([0.25, 0.25, 0.5])
    evened = balanced(found, shares)
    assert evened.mean(axis=0) == pytest.approx(shares, abs=0.02)
    assert evened.sum(axis=1) == pytest.approx(1)
    assert balanced(np.eye(3)[[0, 0, 1]], np.full(3, 1 / 3)).argmax(axis=1).tolist() == [0, 0, 1]
