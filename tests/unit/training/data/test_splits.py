from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.rows import Rows
from training.data.splits import Split, find_leaks, normalise, split_rows, unused_splits
from training.errors import InvalidData
from training.tasks import TASKS

TASK = TASKS["classification"]


def rows_of(
    counts: dict[str, int], splits: tuple[str, ...] | None = None, same_text: bool = False
) -> Rows[str]:
    labels = tuple(label for label, n in counts.items() for _ in range(n))
    texts = tuple("same" if same_text else f"text {i}" for i in range(len(labels)))
    return Rows(texts, labels, splits)


def refusal(rows: Rows[str], train_split: str = "train", test_split: str = "test") -> str:
    with pytest.raises(InvalidData) as refused:
        split_rows(rows, TASK, train_split=train_split, test_split=test_split, seed=0)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Where IS it?", "where is it"),
        ("  a \t\n b ", "a b"),
        ("ﬁne", "fine"),
        ("Straße", "STRASSE"),
        ("“quoted!!”", "quoted"),
        ("café", "cafe\u0301"),
        ("\uff11\uff12", "12"),
    ],
)
def test_what_makes_no_other_text(text: str, same: str) -> None:
    assert normalise(text) == normalise(same)


@pytest.mark.parametrize(("text", "other"), [("?", "!"), ("a-b", "ab"), ("👍", "👎"), ("a", "b")])
def test_what_makes_another_text(text: str, other: str) -> None:
    assert normalise(text) != normalise(other) != ""


def test_the_given_split_is_taken_as_it_is() -> None:
    rows = rows_of({"a": 3, "b": 3}, ("train", "train", "test", "train", "other", "train"))
    split = split_rows(rows, TASK, seed=0)
    assert split.given
    assert split.train.tolist() == [0, 1, 3, 5]
    assert split.test.tolist() == [2]


def test_other_names_of_given_splits() -> None:
    rows = rows_of({"a": 3, "b": 2}, ("fit", "fit", "dev", "fit", "fit"))
    assert split_rows(rows, TASK, train_split="fit", test_split="dev", seed=0).test.tolist() == [2]


@pytest.mark.parametrize(
    ("splits", "missing", "flag"),
    [(("Train", "test"), "train", "--train-split"), (("train", "dev"), "test", "--test-split")],
)
def test_a_given_split_that_is_not_there(splits: tuple[str, str], missing: str, flag: str) -> None:
    message = refusal(rows_of({"a": 2, "b": 2}, (splits[0],) * 3 + (splits[1],)))
    assert f"No row is in the split {missing!r}" in message
    assert f"{splits[0]!r} (3), {splits[1]!r} (1)" in message
    assert flag in message


@pytest.mark.parametrize("other", ["Train", "train\u200b", "TEST", "\uff54est"])
def test_a_split_that_is_spelled_in_two_ways_loses_no_rows_silently(other: str) -> None:
    splits = ("train", "train", "test", other)
    message = refusal(rows_of({"a": 4}, splits))
    assert f"1 rows are in the split {other!r} and" in message
    assert "Spell the two alike" in message


def test_rows_of_other_splits_are_counted() -> None:
    rows = rows_of({"a": 4, "b": 4}, ("train", "train", "test", "dev") * 2)
    assert unused_splits(rows, split_rows(rows, TASK, seed=0)) == {"dev": 2}
    assert unused_splits(rows_of({"a": 8}), Split(np.arange(4), np.arange(4, 8), False)) == {}


def test_one_split_for_both() -> None:
    message = refusal(rows_of({"a": 2, "b": 2}, ("train",) * 4), test_split="train")
    assert "cannot both be the split 'train'" in message


def test_a_test_label_that_training_never_saw() -> None:
    rows = rows_of({"a": 2, "b": 2, "c": 1}, ("train",) * 4 + ("test",))
    assert "Training never sees labels that the test asks for: 'c' (1)" in refusal(rows)


def test_one_label_only() -> None:
    assert "All rows have the label 'a'" in refusal(rows_of({"a": 9}))
    rows = rows_of({"a": 2, "b": 1}, ("train", "train", "test"))
    assert "All training rows have the label 'a'" in refusal(rows)


def test_classes_too_small_are_named_with_their_counts() -> None:
    given_rows = rows_of({"a": 2, "b": 1, "c": 1}, ("train",) * 3 + ("test",))
    assert "two are needed: 'b' (1). Add rows, or remove the label" in refusal(given_rows)
    message = refusal(rows_of({"a": 9, "b": 2, "c": 1}))
    assert "three are needed to hold one out: 'b' (2), 'c' (1)" in message


def test_many_small_classes_are_counted_not_listed() -> None:
    message = refusal(rows_of({f"label {i}": 2 for i in range(14)}))
    assert "'label 9' (2) and 4 more" in message
    assert "label 10" not in message


def test_nothing_can_be_held_out_of_equal_texts() -> None:
    assert "No row can be held out" in refusal(rows_of({"a": 5, "b": 5}, same_text=True))


def test_our_own_split_is_a_fifth_of_each_class() -> None:
    rows = rows_of({"a": 50, "b": 10, "c": 3})
    split = split_rows(rows, TASK, seed=0)
    assert not split.given
    assert Counter(rows.targets[i] for i in split.test) == {"a": 10, "b": 2, "c": 1}
    assert sorted([*split.train, *split.test]) == list(range(63))


def test_the_seed_decides_and_repeats() -> None:
    rows = rows_of({"a": 50, "b": 50})
    first, again, other = (split_rows(rows, TASK, seed=seed).test.tolist() for seed in (1, 1, 2))
    assert first == again != other


# Few texts and few labels: groups of equal texts with conflicting labels are the common case.
LABELLED = st.tuples(st.sampled_from("ABCDEFGHIJKL"), st.sampled_from("xyz"), st.sampled_from(" !"))


@given(st.lists(LABELLED, max_size=60), st.integers(0, 5))
def test_equal_texts_never_straddle_and_classes_keep_two(
    drawn: list[tuple[str, str, str]], seed: int
) -> None:
    base = rows_of({"x": 6, "y": 6, "z": 6})
    texts = base.texts + tuple(letter + end for letter, _, end in drawn)
    rows = Rows(texts, base.targets + tuple(label for _, label, _ in drawn), None)
    split = split_rows(rows, TASK, seed=seed)
    assert find_leaks(rows, split).rows == ()
    assert min(Counter(rows.targets[i] for i in split.train).values()) >= 2
    assert 0 < len(split.test) <= round(0.2 * len(texts)) + 3
    assert sorted([*split.train, *split.test]) == list(range(len(texts)))


@pytest.mark.parametrize("seed", range(5))
def test_another_class_never_takes_the_last_rows_of_a_small_one(seed: int) -> None:
    """Three texts carry both labels; a fifth of "a" would hold two of them, and two rows of "b"."""
    shared = ("one", "two", "three")
    rows = Rows(shared + ("four",) * 17 + shared, ("a",) * 20 + ("b",) * 3, None)
    split = split_rows(rows, TASK, seed=seed)
    assert Counter(rows.targets[i] for i in split.train) == {"a": 19, "b": 2}


def test_leaks_and_conflicts_are_found_by_their_rows() -> None:
    texts = ("Lost card", "lost card?", "Hello", "hello!", "LOST  CARD", "lost card", "new")
    rows = Rows(texts, ("a", "b", "c", "c", "a", "a", "c"), None)
    leaks = find_leaks(rows, Split(np.arange(4), np.arange(4, 7), given=True))
    assert leaks.rows == (4, 5)
    assert leaks.conflicts == (0,)
