"""Folds of cross-validation over rows, whatever vectors are made of them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from training.heads.base import Fold

MAX_FOLDS = 5
# Of so many vectors, the loss out of fold is known well enough to choose by, and fits are slow: the
# other folds of a tagger, with a vector a token, would take twice the time to settle near ties.
ENOUGH_HELD = 30_000
NO_ROW = -1  # of vectors that no row of the data stands behind, such as a label's name


def make_folds(
    strata: Sequence[str],
    rows: NDArray[np.int64],
    judged: NDArray[np.bool_],
    seed: int,
    least: int = 2,
) -> list[Fold]:
    """Folds over the rows 0..len(strata)-1, each with its part of every stratum.

    `rows` [m] says which row a vector is of: all of a row's vectors stand on one side of a fold.
    Vectors of `NO_ROW` always teach. Only `judged` [m] ones are held out. Strata of fewer than
    `least` rows are spread together; there are as many folds as the smallest has rows, less
    those beyond `ENOUGH_HELD` vectors that are held out.
    """
    counts = Counter(strata)
    largest = counts.most_common(1)[0][0]
    # A stratum of one row cannot be on both sides.
    names = [name if counts[name] >= least else "" for name in strata]
    if names.count("") < least:
        names = [name or largest for name in names]
    n_folds = min(MAX_FOLDS, max(2, min(Counter(names).values())))
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    folds: list[Fold] = []
    for _, held_rows in splitter.split(np.zeros(len(names)), names):
        if sum(len(fold.held) for fold in folds) >= ENOUGH_HELD:
            break
        is_held = np.isin(rows, held_rows)
        folds.append(Fold(np.flatnonzero(~is_held), np.flatnonzero(is_held & judged)))
    return folds
