from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.manifest import Estimate
from training.data.spans import TypedSpan
from training.measures.entities import measure, token_accuracy
from training.measures.lexicon import lexicon_baseline

TRUE: list[list[TypedSpan]] = [[(0, 4, "person"), (9, 14, "place")], [], [(3, 7, "place")]]
FOUND: list[list[TypedSpan]] = [
    [(0, 4, "person"), (9, 12, "place"), (20, 22, "place")],  # right, other end, of nothing
    [(0, 1, "person")],
    [(3, 7, "person")],  # another type
]


def values(found: list[list[TypedSpan]], true: list[list[TypedSpan]]) -> dict[str, float]:
    measured = measure(found, true, seed=0, n_bootstrap=10)
    return {name: estimate.value for name, estimate in measured.items()}


def test_exact_spans_with_their_types_are_right() -> None:
    """1 of the 5 that were found is right; 1 of the 3 that there are is found."""
    assert values(FOUND, TRUE) == pytest.approx(
        {"entity_f1": 2 / 8, "entity_precision": 1 / 5, "entity_recall": 1 / 3}
    )


def test_f1_comes_first() -> None:
    assert next(iter(measure(FOUND, TRUE, seed=0, n_bootstrap=2))) == "entity_f1"


def test_all_right_and_nothing_found() -> None:
    all_right = measure(TRUE, TRUE, seed=0)
    assert all_right["entity_f1"] == Estimate(value=1, low=0, high=1)  # rows may all be the second
    many = measure([TRUE[0]] * 50, [TRUE[0]] * 50, seed=0)
    assert set(many.values()) == {Estimate(value=1, low=1, high=1)}
    nothing = measure([[]] * 3, TRUE, seed=0)
    assert set(nothing.values()) == {Estimate(value=0, low=0, high=0)}


def test_nothing_to_find_is_no_success() -> None:
    assert set(values([[], []], [[], []]).values()) == {0.0}


def test_the_same_entity_twice_is_right_once() -> None:
    twice: list[list[TypedSpan]] = [[(0, 4, "person"), (0, 4, "person")]]
    assert values(twice, [[(0, 4, "person")]]) == pytest.approx(
        {"entity_f1": 2 / 3, "entity_precision": 1 / 2, "entity_recall": 1}
    )


_SPANS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(4, 6), st.sampled_from("xy")), unique=True, max_size=4
)


@given(st.lists(st.tuples(_SPANS, _SPANS), min_size=1, max_size=6))
def test_f1_is_the_harmonic_mean(rows: list[tuple[list[TypedSpan], list[TypedSpan]]]) -> None:
    hits = sum(len([each for each in found if each in true]) for found, true in rows)
    n_found, n_true = (sum(len(row[side]) for row in rows) for side in (0, 1))
    measured = values([found for found, _ in rows], [true for _, true in rows])
    precision = Fraction(hits, n_found) if n_found else Fraction(0)
    recall = Fraction(hits, n_true) if n_true else Fraction(0)
    both = precision + recall
    assert measured["entity_precision"] == pytest.approx(float(precision))
    assert measured["entity_recall"] == pytest.approx(float(recall))
    assert measured["entity_f1"] == pytest.approx(
        float(2 * precision * recall / both if both else 0)
    )


def test_intervals_are_over_rows() -> None:
    """A row's ten entities are all found or none: recall is as unsure as of 100, not 1,000."""
    spans: list[TypedSpan] = [(10 * place, 10 * place + 5, "x") for place in range(10)]
    found = [spans if number % 2 else [] for number in range(100)]
    recall = measure(found, [spans] * 100, seed=0)["entity_recall"]
    half = 1.96 * np.sqrt(0.25 / 100)
    assert recall.value == 0.5
    assert recall.high - recall.value == pytest.approx(half, rel=0.15)
    assert recall.value - recall.low == pytest.approx(half, rel=0.15)


def test_the_seed_repeats() -> None:
    assert measure(FOUND, TRUE, seed=1) == measure(FOUND, TRUE, seed=1)


def test_token_accuracy_by_hand() -> None:
    found = token_accuracy([3, 0, 5], [4, 0, 6], seed=0)
    assert found.value == 8 / 10
    assert (found.low, found.high) == (0, 5 / 6)  # all resamples of the second row: of no token
    assert token_accuracy([0], [0], seed=0) == Estimate(value=0, low=0, high=0)


TEXTS = ["Anna met Bob in Rome.", "anna, of New York", "Rome and May", "may I, May?"]
SPANS: list[list[TypedSpan]] = [
    [(0, 4, "person"), (9, 12, "person"), (16, 20, "place")],
    [(0, 4, "person"), (9, 17, "place")],
    [(0, 4, "place"), (9, 12, "person")],
    [],
]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ANNA in Rome.", [(0, 4, "person"), (8, 12, "place")]),
        ("(New York)", [(1, 9, "place")]),
        ("York, New", [(0, 4, "place"), (6, 9, "place")]),  # "I-" begins one, too
        ("may Carl", []),  # a person once and nothing twice; never seen
        ("", []),
    ],
)
def test_the_lexicon_by_hand(text: str, found: list[TypedSpan]) -> None:
    assert lexicon_baseline(TEXTS, SPANS, [text]) == [found]


def test_a_word_that_is_as_often_one_thing_as_another_is_outside() -> None:
    texts, spans = ["May", "may"], [[(0, 3, "person")], [(0, 3, "month")]]
    assert lexicon_baseline(texts, spans, ["may"]) == [[]]
    assert lexicon_baseline([*texts, "MAY"], [*spans, spans[1]], ["may"]) == [[(0, 3, "month")]]
