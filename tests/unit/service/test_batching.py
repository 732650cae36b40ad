from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.engine.batching import WINDOW, BatchLimits, guided, next_batch, rank_factor

lengths_of_rows = st.lists(st.integers(1, 600), min_size=1, max_size=60)


@dataclass(frozen=True)
class Row:
    length: int
    lora: str | None = None
    rank: int = 0


def chosen(lengths: list[int], tokens: int) -> list[int]:
    return next_batch([Row(length) for length in lengths], BatchLimits(tokens, 64))


def with_loras(rows: list[Row], ranks: int) -> list[int]:
    return next_batch(rows, BatchLimits(10_000, ranks))


def test_nothing_waits_nothing_goes() -> None:
    assert chosen([], 256) == []


def test_all_go_together_where_the_budget_allows_it() -> None:
    assert chosen([4, 4, 4, 4], 16) == [0, 1, 2, 3]


def test_padding_counts_towards_the_budget() -> None:
    # Three rows padded to 41 tokens are 123, and 121 tokens of text would fit.
    assert chosen([40, 41, 40], 121) == [0, 2]


def test_the_rows_nearest_to_the_first_in_length_go_with_it() -> None:
    assert chosen([50, 100, 49, 2, 51], 153) == [0, 2, 4]


def test_of_equally_near_rows_those_in_front_go() -> None:
    assert chosen([50, 51, 50, 49, 50, 50], 150) == [0, 2, 4]


def test_what_would_be_padded_much_waits_for_its_like() -> None:
    assert chosen([10, 20, 10, 20], 1000) == [0, 2]
    assert chosen([10, 12], 1000) == [0, 1]
    assert chosen([10, 13], 1000) == [0]


def test_a_row_longer_than_the_budget_goes_alone() -> None:
    assert chosen([1000, 1, 1], 256) == [0]


def test_a_budget_of_one_token_still_moves() -> None:
    assert chosen([3, 1], 1) == [0]


def test_rows_beyond_the_window_wait() -> None:
    assert chosen([1] * (WINDOW + 1), 10_000) == list(range(WINDOW))
    assert chosen([7] + [1] * WINDOW + [7], 14) == [0]


def test_different_loras_together_hold_their_bound_of_ranks() -> None:
    rows = [Row(5, "a", 8), Row(5, "b", 8), Row(5, "c", 8), Row(5, "d", 4), Row(5)]
    assert with_loras(rows, 20) == [0, 1, 3, 4]


def test_rows_of_a_lora_that_goes_already_cost_no_rank() -> None:
    rows = [Row(5, "a", 8), Row(5, "b", 8), *[Row(5, "a", 8)] * 5]
    assert with_loras(rows, 8) == [0, 2, 3, 4, 5, 6]


def test_a_lora_over_the_bound_goes_alone_of_its_kind() -> None:
    assert with_loras([Row(5, "large", 16), Row(5, "small", 1), Row(5)], 8) == [0, 2]


def test_large_ranks_go_with_their_like_and_fewer_at_once() -> None:
    rows = [Row(5, "a", 64), Row(5), Row(5, "b", 8), Row(5, "a", 64), Row(5, "c", 50)]
    assert next_batch(rows, BatchLimits(1000, 1000)) == [0, 3, 4]
    assert next_batch([Row(10, "a", 64)] * 9, BatchLimits(120, 1000)) == [0, 1, 2]
    assert [rank_factor(rank) for rank in (0, 1, 16, 17, 32, 64)] == [1, 1, 1, 2, 2, 4]


@given(lengths_of_rows, st.integers(1, 600))
def test_every_batch_has_the_first_row_and_holds_the_budget(
    lengths: list[int], budget: int
) -> None:
    batch = chosen(lengths, budget)
    assert batch[0] == 0
    assert batch == sorted(set(batch))
    longest = max(lengths[position] for position in batch)
    assert len(batch) == 1 or longest * len(batch) <= budget


@given(lengths_of_rows, st.integers(1, 10_000))
def test_a_twentieth_of_a_batch_is_padding_or_two_tokens(lengths: list[int], budget: int) -> None:
    batch = [lengths[position] for position in chosen(lengths, budget)]
    padded = max(batch) * len(batch)
    assert padded - sum(batch) <= max(2, padded / 20)


@given(lengths_of_rows, st.integers(1, 600))
def test_a_queue_runs_empty_in_no_more_batches_than_rows(lengths: list[int], budget: int) -> None:
    left, batches = list(lengths), 0
    while left:
        batch = set(chosen(left, budget))
        left = [length for position, length in enumerate(left) if position not in batch]
        batches += 1
    assert batches <= len(lengths)


def test_batches_grow_with_what_waits() -> None:
    limits = BatchLimits(tokens=128, ranks=64)
    assert [guided(limits, waiting, runs=2).tokens for waiting in (0, 192, 400, 512, 9999)] == [
        48,
        48,
        100,
        128,
        128,
    ]
    assert guided(limits, 9999, runs=2) == limits
    assert guided(limits, 1200, runs=8).tokens == 75


def test_a_smaller_bound_stays() -> None:
    assert guided(BatchLimits(tokens=16, ranks=64), 9999, runs=2).tokens == 16
    assert guided(BatchLimits(tokens=16, ranks=64), 0, runs=2).tokens == 16
