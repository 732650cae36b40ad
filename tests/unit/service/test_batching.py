from hypothesis import given
from hypothesis import strategies as st

from service.engine.batching import WINDOW, next_batch


def test_nothing_waits_nothing_goes() -> None:
    assert next_batch([], 256) == []


def test_all_go_together_where_the_budget_allows_it() -> None:
    assert next_batch([4, 4, 4, 4], 16) == [0, 1, 2, 3]


def test_padding_counts_towards_the_budget() -> None:
    # Three rows padded to 6 tokens are 18, and 15 tokens of text would fit.
    assert next_batch([6, 6, 3], 16) == [0, 1]


def test_the_rows_nearest_to_the_oldest_in_length_go_with_it() -> None:
    assert next_batch([10, 100, 9, 2, 11], 33) == [0, 2, 4]


def test_of_equally_near_rows_the_older_ones_go() -> None:
    assert next_batch([5, 7, 5, 7, 5, 5], 15) == [0, 2, 4]


def test_a_row_longer_than_the_budget_goes_alone() -> None:
    assert next_batch([1000, 1, 1], 256) == [0]


def test_a_budget_of_one_token_still_moves() -> None:
    assert next_batch([3, 1], 1) == [0]


def test_rows_beyond_the_window_wait() -> None:
    assert next_batch([1] * (WINDOW + 1), 10_000) == list(range(WINDOW))
    assert next_batch([7] + [1] * WINDOW + [7], 14) == [0, 1]


@given(st.lists(st.integers(1, 600), min_size=1, max_size=60), st.integers(1, 600))
def test_every_batch_has_the_oldest_row_and_holds_the_budget(
    lengths: list[int], budget: int
) -> None:
    chosen = next_batch(lengths, budget)
    assert chosen[0] == 0
    assert chosen == sorted(set(chosen))
    longest = max(lengths[position] for position in chosen)
    assert len(chosen) == 1 or longest * len(chosen) <= budget


@given(st.lists(st.integers(1, 600), min_size=1, max_size=60), st.integers(1, 600))
def test_no_row_left_behind_is_nearer_than_one_that_went(lengths: list[int], budget: int) -> None:
    chosen = set(next_batch(lengths, budget))
    gaps = [abs(length - lengths[0]) for length in lengths]
    went = max(gaps[position] for position in chosen)
    assert all(gaps[left] >= went for left in set(range(len(lengths))) - chosen)


@given(st.lists(st.integers(1, 600), max_size=60), st.integers(1, 600))
def test_a_queue_runs_empty_in_no_more_batches_than_rows(lengths: list[int], budget: int) -> None:
    left, batches = list(lengths), 0
    while left:
        chosen = set(next_batch(left, budget))
        left = [length for position, length in enumerate(left) if position not in chosen]
        batches += 1
    assert batches <= len(lengths)
