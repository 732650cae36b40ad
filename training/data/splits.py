"""Which rows train and which test, and what the two have in common that they should not."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.data.names import fold_case, fold_name
from training.data.rows import Rows
from training.errors import InvalidData, named_counts
from training.tasks.base import Task

TEST_SHARE = 0.2
EXAMPLES = 5
Target = TypeVar("Target")


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into the rows, ascending; `given` says that the data brought the split."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    given: bool


@dataclass(frozen=True, slots=True)
class Leaks:
    """What makes the test easier than it looks, and what no model can learn.

    `rows` are the places of test rows whose text training holds too; `conflicts` those of the first
    training row of each text that has more than one target.
    """

    rows: tuple[int, ...]
    conflicts: tuple[int, ...]


def normalise(text: str) -> str:
    """The text without the differences that make no other text.

    Unicode NFKC, case folded, white space collapsed, punctuation stripped from both ends. A text of
    nothing but punctuation keeps it.
    """
    collapsed = " ".join(fold_case(text).split())
    start, end = 0, len(collapsed)
    while start < end and _is_edge(collapsed[start]):
        start += 1
    while start < end and _is_edge(collapsed[end - 1]):
        end -= 1
    return collapsed[start:end] or collapsed


def _is_edge(character: str) -> bool:
    return character == " " or unicodedata.category(character).startswith("P")


def split_rows(
    rows: Rows[Target],
    task: Task[Target],
    *,
    train_split: str = "train",
    test_split: str = "test",
    seed: int,
) -> Split:
    """The split that the data brings, else a stratified fifth held out; raises InvalidData.

    Our own keeps rows of one normalised text together and two training rows a stratum.
    """
    if rows.splits is None:
        task.check_all(rows.targets)
        train, test = hold_out(rows.texts, task.strata(rows.targets), TEST_SHARE, seed)
        split = Split(train, test, given=False)
    else:
        split = _given_split(rows.splits, train_split, test_split)
    task.check(rows.pick(split.train)[1], rows.pick(split.test)[1])
    return split


def find_leaks(rows: Rows[Target], split: Split) -> Leaks:
    """Texts that train and test share, and training texts of several targets, after `normalise`."""
    targets_of: dict[str, set[Target]] = defaultdict(set)
    first_with: dict[str, int] = {}
    for place in map(int, split.train):
        text = normalise(rows.texts[place])
        targets_of[text].add(rows.targets[place])
        first_with.setdefault(text, place)
    return Leaks(
        rows=tuple(
            place for place in map(int, split.test) if normalise(rows.texts[place]) in first_with
        ),
        conflicts=tuple(place for text, place in first_with.items() if len(targets_of[text]) > 1),
    )


def _given_split(splits: Sequence[str], train_split: str, test_split: str) -> Split:
    """The rows of the named values; both must occur, since no head goes out unmeasured."""
    if train_split == test_split:
        raise InvalidData(f"Training and test cannot both be the split {train_split!r}.")
    there = Counter(splits)
    refuse_similar_splits(there, (train_split, test_split))
    for name, flag in ((train_split, "--train-split"), (test_split, "--test-split")):
        if name not in there:
            raise InvalidData(
                f"No row is in the split {name!r}; the column holds "
                f"{named_counts(there.items())}. Name the right one with {flag}, or remove the "
                "column to have a fifth held out."
            )
    values = np.asarray(splits)
    return Split(
        np.flatnonzero(values == train_split), np.flatnonzero(values == test_split), given=True
    )


def refuse_similar_splits(there: Mapping[str, int], names: Sequence[str]) -> None:
    """Raises InvalidData for splits that are spelled nearly as the `names` that are used.

    `there` has the rows of each: those of another spelling would be lost.
    """
    used = {fold_name(name): name for name in names if name in there}
    similar = [split for split in there if split not in names and fold_name(split) in used]
    if similar:
        split = similar[0]
        raise InvalidData(
            f"{there[split]} rows are in the split {split!r} and {there[used[fold_name(split)]]} "
            f"in {used[fold_name(split)]!r}. Spell the two alike, or rename one of them."
        )


def unused_splits(rows: Rows[Any], split: Split) -> dict[str, int]:
    """The rows of each split that neither trains nor tests, where the data brought the splits."""
    if rows.splits is None:
        return {}
    used = {*split.train.tolist(), *split.test.tolist()}
    return dict(Counter(name for place, name in enumerate(rows.splits) if place not in used))


def hold_out(
    texts: Sequence[str], strata: Sequence[str], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What stays and what is held out: the share of each stratum, equal texts on one side.

    Two rows at least of each stratum stay. Raises InvalidData where no row can be held out.
    """
    counts = Counter(strata)
    groups: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(texts):
        groups[normalise(text)].append(i)
    by_stratum: dict[str, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        by_stratum[strata[group[0]]].append(group)
    generator = np.random.default_rng(seed)
    remaining = counts.copy()
    held: list[int] = []
    for name in sorted(by_stratum):
        target = max(1, round(share * counts[name]))
        held += _draw(strata, by_stratum[name], target, remaining, generator)
    if not held:
        raise InvalidData(
            "No row can be held out: all rows of each label are the same text. Add different texts."
        )
    return np.setdiff1d(np.arange(len(texts)), held), np.sort(np.asarray(held))


def _draw(
    strata: Sequence[str],
    groups: Sequence[list[int]],
    target: int,
    remaining: Counter[str],
    generator: np.random.Generator,
) -> list[int]:
    """Rows of one stratum, drawn by whole groups; lowers `remaining` by what it takes."""
    taken: list[int] = []
    for g in generator.permutation(len(groups)):
        inside = Counter(strata[i] for i in groups[g])
        fits = len(taken) + inside.total() <= target
        # A group may hold other strata's rows too (conflicting labels): they need theirs as well.
        if fits and all(remaining[name] - n >= 2 for name, n in inside.items()):
            taken += groups[g]
            remaining.subtract(inside)
    return taken
