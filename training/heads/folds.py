"""Folds of cross-validation over rows, whatever vectors are made of them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from training.heads.base import Fold

MAX_FOLDS = 5
# Of so many vectors, the loss out of fold is known well enough to choose by, and fits are slow: the
# other folds of a tagger, with a vector a token, would take twice the time to settle near ties.
ENOUGH_HELD = 30_000
NO_ROW = -1  # of vectors that no row of the data stands behind, such as a label's name
Places = NDArray[np.int64]


def make_folds(
    strata: Sequence[str],
    groups: Places,
    rows: Places,
    judged: NDArray[np.bool_],
    seed: int,
    least: int = 2,
) -> list[Fold]:
    """Make folds over the rows 0..n-1, each with its part of every stratum; `strata` names them.

    `groups` [n] numbers the group of each row: all of a group's rows stand on one side of a fold,
    since a model knows the copy of a text that it was fitted to. `rows` [m] says which row a vector
    is of, and all of a row's vectors stand on one side. Vectors of `NO_ROW` always teach. Only
    `judged` [m] ones are held out. Strata of fewer than `least` groups are spread together; there
    are as many folds as the smallest has groups, less those beyond `ENOUGH_HELD` vectors that are
    held out.
    """
    counts = _count_groups(strata, groups)
    largest = counts.most_common(1)[0][0]
    # A stratum of one group cannot be on both sides.
    names = [name if counts[name] >= least else "" for name in strata]
    if _count_groups(names, groups)[""] < least:
        names = [name or largest for name in names]
    n_folds = min(MAX_FOLDS, max(2, min(_count_groups(names, groups).values())))
    folds: list[Fold] = []
    for held_rows in _part(strata, names, groups, n_folds, seed):
        if sum(len(fold.held) for fold in folds) >= ENOUGH_HELD:
            break
        is_held = np.isin(rows, held_rows)
        folds.append(Fold(np.flatnonzero(~is_held), np.flatnonzero(is_held & judged)))
    return folds


def _count_groups(strata: Sequence[str], groups: Places) -> Counter[str]:
    """Count the groups of each stratum; one of several strata counts in each."""
    return Counter(name for name, _ in set(zip(strata, groups.tolist(), strict=True)))


def _part(
    strata: Sequence[str], names: Sequence[str], groups: Places, n_folds: int, seed: int
) -> list[Places]:
    """Return the rows that each fold holds out, parted by `names`."""
    nothing = np.zeros(len(names))
    by_row = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(nothing, names)
    n_groups = len(np.unique(groups))
    if n_groups == len(groups) or n_groups < n_folds:
        return [held for _, held in by_row]
    by_group = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    sizes = Counter(strata)
    parts = []
    for _, held in by_group.split(nothing, names, groups):
        # Nobody is judged by what nothing teaches: a stratum all inside stays, with its groups.
        inside = Counter(strata[row] for row in held)
        staying = [row for row in held if inside[strata[row]] == sizes[strata[row]]]
        parts.append(held[~np.isin(groups[held], groups[staying])])
    # No stratum has two texts: the copies are all that there is to judge by.
    return [part for part in parts if len(part)] or [held for _, held in by_row]
