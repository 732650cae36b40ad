from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.finetune.schedule import class_batches, rate_factor, shuffled_batches


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(factors) == factors[9] == 1.0
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert 0 < factors[-1] < 0.001
    assert factors[55] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_rate(steps: int) -> None:
    assert all(0 < rate_factor(step, steps, 0.1) <= 1 for step in range(steps))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=300), st.integers(1, 40))
def test_an_epoch_has_each_row_once(lengths: list[int], batch: int) -> None:
    batches = shuffled_batches(lengths, batch, 3, 1)
    assert Counter(place for each in batches for place in each) == Counter(range(len(lengths)))
    assert max(len(each) for each in batches) <= batch


def test_rows_of_near_length_go_together() -> None:
    lengths = [1 + number % 50 for number in range(800)]
    batches = shuffled_batches(lengths, 16, 0, 0)
    padded = sum(max(lengths[place] for place in each) * len(each) for each in batches)
    assert padded < 1.2 * sum(lengths)  # at random it is 1.8


def test_seed_and_epoch_decide_the_order() -> None:
    lengths = [7] * 100
    one = shuffled_batches(lengths, 8, 0, 0)
    assert one == shuffled_batches(lengths, 8, 0, 0)
    assert one != shuffled_batches(lengths, 8, 0, 1)
    assert one != shuffled_batches(lengths, 8, 1, 0)


def test_contrastive_batches_have_several_rows_of_each_of_their_classes() -> None:
    classes = [number % 30 for number in range(300)]
    batches = class_batches(classes, 32, 0, 0)
    assert len(batches) == 9
    for batch in batches:
        assert len(set(batch)) == len(batch) == 32
        assert set(Counter(classes[place] for place in batch).values()) == {4}


def test_contrastive_batches_of_few_rows() -> None:
    batches = class_batches([0, 0, 1, 1], 32, 0, 0)
    assert [sorted(batch) for batch in batches] == [[0, 1, 2, 3]]
