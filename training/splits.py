"""Which rows train and which test, and what the two have in common that they should not."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data import Rows
from training.errors import InvalidData

TEST_SHARE = 0.2
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into the rows, ascending; `given` says that the data brought the split."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    given: bool


@dataclass(frozen=True, slots=True)
class Leaks:
    """What makes the test easier than it looks, and what no model can learn.

    `count` test rows have a text that training holds too; `conflicts` texts of training carry more
    than one label, in `conflict_examples` with those labels.
    """

    count: int
    examples: tuple[str, ...]
    conflicts: int
    conflict_examples: tuple[tuple[str, tuple[str, ...]], ...]


def normalise(text: str) -> str:
    """The text without the differences that make no other text.

    Unicode NFKC, case folded, white space collapsed, punctuation stripped from both ends. A text of
    nothing but punctuation keeps it.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    collapsed = " ".join(folded.split())
    start, end = 0, len(collapsed)
    while start < end and _is_edge(collapsed[start]):
        start += 1
    while start < end and _is_edge(collapsed[end - 1]):
        end -= 1
    return collapsed[start:end] or collapsed


def _is_edge(character: str) -> bool:
    return character == " " or unicodedata.category(character).startswith("P")


def split_rows(
    rows: Rows, *, train_split: str = "train", test_split: str = "test", seed: int
) -> Split:
    """The split that the data brings, else a stratified fifth held out; raises InvalidData.

    Our own keeps rows of one normalised text together and two training rows a class.
    """
    if len(set(rows.labels)) < 2:
        raise InvalidData(
            f"All rows have the label {rows.labels[0]!r}. Training needs at least two labels."
        )
    if rows.splits is None:
        split = _own_split(rows, seed)
    else:
        split = _given_split(rows.splits, train_split, test_split)
    _check_classes(rows, split)
    return split


def find_leaks(rows: Rows, split: Split) -> Leaks:
    """Texts that train and test share, and training texts of several labels, after `normalise`."""
    labels_of: dict[str, dict[str, None]] = defaultdict(dict)
    for i in split.train:
        labels_of[normalise(rows.texts[i])][rows.labels[i]] = None
    shared = [rows.texts[i] for i in split.test if normalise(rows.texts[i]) in labels_of]
    conflicts = [(text, tuple(labels)) for text, labels in labels_of.items() if len(labels) > 1]
    return Leaks(
        count=len(shared),
        examples=tuple(dict.fromkeys(shared))[:EXAMPLES],
        conflicts=len(conflicts),
        conflict_examples=tuple(conflicts[:EXAMPLES]),
    )


def _given_split(splits: Sequence[str], train_split: str, test_split: str) -> Split:
    """The rows of the named values; both must occur, since no head goes out unmeasured."""
    if train_split == test_split:
        raise InvalidData(f"Training and test cannot both be the split {train_split!r}.")
    there = Counter(splits)
    for name, flag in ((train_split, "--train-split"), (test_split, "--test-split")):
        if name not in there:
            raise InvalidData(
                f"No row is in the split {name!r}; the column holds {_counts(there.items())}. Name "
                f"the right one with {flag}, or remove the column to have a fifth held out."
            )
    values = np.asarray(splits)
    return Split(
        np.flatnonzero(values == train_split), np.flatnonzero(values == test_split), given=True
    )


def _own_split(rows: Rows, seed: int) -> Split:
    """Hold out a fifth of each class, whole groups of equal texts at a time."""
    counts = Counter(rows.labels)
    _refuse_small(counts, 3, "rows, and three are needed to hold one out")
    groups: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(rows.texts):
        groups[normalise(text)].append(i)
    by_class: dict[str, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        by_class[rows.labels[group[0]]].append(group)
    generator = np.random.default_rng(seed)
    remaining = counts.copy()
    test: list[int] = []
    for label in sorted(by_class):
        test += _hold_out(rows.labels, by_class[label], counts[label], remaining, generator)
    if not test:
        raise InvalidData(
            "No row can be held out for the test: all rows of each label are the same text. "
            "Add different texts."
        )
    train = np.setdiff1d(np.arange(len(rows.texts)), test)
    return Split(train, np.sort(np.asarray(test)), given=False)


def _hold_out(
    labels: Sequence[str],
    groups: Sequence[list[int]],
    rows_of_class: int,
    remaining: Counter[str],
    generator: np.random.Generator,
) -> list[int]:
    """Test rows of one class, drawn by whole groups; lowers `remaining` by what it takes."""
    target = max(1, round(TEST_SHARE * rows_of_class))
    taken: list[int] = []
    for g in generator.permutation(len(groups)):
        inside = Counter(labels[i] for i in groups[g])
        fits = len(taken) + inside.total() <= target
        # A group may hold other classes' rows too (conflicting labels): they need theirs as well.
        if fits and all(remaining[label] - n >= 2 for label, n in inside.items()):
            taken += groups[g]
            remaining.subtract(inside)
    return taken


def _check_classes(rows: Rows, split: Split) -> None:
    train = Counter(rows.labels[i] for i in split.train)
    if len(train) < 2:
        raise InvalidData(
            f"All training rows have the label {next(iter(train))!r}. At least two are needed."
        )
    _refuse_small(train, 2, "training rows, and two are needed")
    unseen = Counter(rows.labels[i] for i in split.test if rows.labels[i] not in train)
    if unseen:
        raise InvalidData(
            f"Training never sees labels that the test asks for: {_counts(unseen.items())}. Add "
            "training rows for them, or remove them from the test."
        )


def _refuse_small(counts: Counter[str], least: int, needed: str) -> None:
    small = [(label, n) for label, n in counts.items() if n < least]
    if small:
        raise InvalidData(
            f"Labels with too few {needed}: {_counts(small)}. Add rows, or remove the label."
        )


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    """ "'refund' (1), 'lost card' (1) and 3 more": the first few values with their row counts."""
    pairs = list(counts)
    more = f" and {len(pairs) - 10} more" if len(pairs) > 10 else ""
    return ", ".join(f"{value!r} ({n})" for value, n in pairs[:10]) + more
