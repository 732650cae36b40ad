from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.examples import of_rows, of_tokens
from training.heads import folds as module
from training.heads.base import Fold
from training.heads.folds import MAX_FOLDS, make_folds


def folds_of(strata: list[str], least: int = 2) -> list[Fold]:
    every = np.arange(len(strata))
    return make_folds(strata, every, every, np.ones(len(strata), dtype=bool), 0, least)


def alone(strata: list[str]) -> NDArray[np.int64]:
    """Each row is a group of its own."""
    return np.arange(len(strata))


def held(folds: list[Fold], strata: list[str]) -> list[Counter[str]]:
    """The strata that each fold judges by, once it is clear that the folds part the rows."""
    assert sorted(np.concatenate([fold.held for fold in folds])) == list(range(len(strata)))
    for fold in folds:
        assert sorted([*fold.train, *fold.held]) == list(range(len(strata)))
    return [Counter(strata[row] for row in fold.held) for fold in folds]


def test_each_fold_has_its_part_of_every_stratum() -> None:
    strata = ["a"] * 10 + ["b"] * 5
    assert held(folds_of(strata), strata) == [Counter(a=2, b=1)] * 5


@pytest.mark.parametrize(
    ("rare", "folds"), [(["x"], 5), (["x", "y"], 2), (["x"] * 3, 3), ([""], 5), (["", "x"], 2)]
)
def test_strata_of_one_row_are_spread_together(rare: list[str], folds: int) -> None:
    """A single one stands with the largest: scikit-learn warns of what it cannot part."""
    strata = ["a"] * 9 + ["b"] * 6 + rare
    found = folds_of(strata)
    assert len(found) == folds
    assert all(len(each) >= 2 for each in held(found, strata))


def test_rare_labels_do_not_lower_the_number_of_folds_and_rare_classes_do() -> None:
    strata = ["a"] * 20 + ["x"] * 3 + ["y"] * 4 + ["z"] * 2
    x = np.zeros((len(strata), 2), np.float32)
    classes = of_rows(x, np.zeros(len(strata), np.int64)).folds(strata, alone(strata), 0)
    labels = of_rows(x, np.zeros((len(strata), 3))).folds(strata, alone(strata), 0)
    assert (len(classes), len(labels)) == (2, MAX_FOLDS)
    # Nine rows of rare strata, spread over five folds as one stratum.
    assert {each.total() - each["a"] for each in held(labels, strata)} == {1, 2}


@pytest.mark.parametrize(("n", "folds"), [(2, 2), (4, 4), (9, 5)])
def test_nothing_but_rare_strata(n: int, folds: int) -> None:
    strata = [str(number) for number in range(n)]
    found = folds_of(strata, MAX_FOLDS)
    assert len(found) == folds
    held(found, strata)


def test_folds_end_where_enough_vectors_are_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows of three vectors each: six a fold."""
    rows = np.repeat(np.arange(10), 3)
    judged = np.ones(30, dtype=bool)
    every = make_folds(["x"] * 10, np.arange(10), rows, judged, 0)
    assert [len(fold.held) for fold in every] == [6] * 5
    monkeypatch.setattr(module, "ENOUGH_HELD", 7)
    some = make_folds(["x"] * 10, np.arange(10), rows, judged, 0)
    assert [fold.held.tolist() for fold in some] == [fold.held.tolist() for fold in every[:2]]
    assert [len(fold.train) for fold in some] == [24, 24]


def test_a_rare_type_does_not_halve_the_folds_of_tokens() -> None:
    strata = ["rare"] * 2 + ["x"] * 20
    features = [np.ones((1 + row % 3, 4), dtype=np.float32) for row in range(22)]
    tokens = of_tokens(features, np.zeros(sum(map(len, features)), dtype=np.int64))
    assert len(tokens.folds(strata, alone(strata), 0)) == MAX_FOLDS
    whole = of_rows(np.ones((22, 4), dtype=np.float32), np.array([0] * 2 + [1] * 20))
    assert len(whole.folds(strata, alone(strata), 0)) == 2


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=60),
    st.integers(0, 5),
)
def test_a_group_is_never_on_both_sides_and_a_stratum_is_always_taught(
    drawn: list[tuple[str, int]], seed: int
) -> None:
    """Groups may be of several strata, as texts with different labels are."""
    drawn = [*drawn, *(("abc"[number % 3], 10 + number) for number in range(6))]
    strata, groups = [name for name, _ in drawn], np.array([group for _, group in drawn])
    every, judged = np.arange(len(drawn)), np.ones(len(drawn), dtype=bool)
    folds = make_folds(strata, groups, every, judged, seed)
    assert folds
    for fold in folds:
        assert sorted([*fold.train, *fold.held]) == list(range(len(strata)))
        assert not set(groups[fold.train]) & set(groups[fold.held])
        assert {strata[row] for row in fold.held} <= {strata[row] for row in fold.train}


def test_rows_that_stand_twice_leave_as_many_folds_as_there_are_texts() -> None:
    strata = ["a", "b"] * 6
    groups = np.array([0, 1, 2, 3, 4, 5] * 2)  # three texts of each stratum, each of them twice
    every, judged = np.arange(12), np.ones(12, dtype=bool)
    folds = make_folds(strata, groups, every, judged, 0)
    assert [len(fold.held) for fold in folds] == [4, 4, 4]


def test_where_each_stratum_is_one_text_copies_are_judged() -> None:
    strata = ["a"] * 4 + ["b"] * 4
    groups = np.array([0] * 4 + [1] * 4)
    folds = make_folds(strata, groups, np.arange(8), np.ones(8, dtype=bool), 0)
    assert sorted(np.concatenate([fold.held for fold in folds])) == list(range(8))
    assert all(len({strata[row] for row in fold.train}) == 2 for fold in folds)
