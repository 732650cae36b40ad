"""Rows to what heads are fitted on: vectors of rows, of their tokens, of labels' names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.heads.base import Fold, Problem
from training.heads.folds import MAX_FOLDS, make_folds
from training.recipe import ClassWeights
from training.tasks.base import CLASS, LABELS, Kind

_WORD = re.compile(r"[^\W\d_]{3,}")  # a code such as "A17" has none


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Vectors x [m, d] with encoded targets y, ready to be fitted and judged.

    `rows` [m] says which training row a vector is of, `NO_ROW` for none. Only `judged` [m] vectors
    are held out of a fold; the others teach.
    """

    x: NDArray[np.float32]
    y: NDArray[Any]
    rows: NDArray[np.int64]
    judged: NDArray[np.bool_]

    def with_taught(
        self, x: NDArray[np.float32], y: NDArray[Any], rows: NDArray[np.int64]
    ) -> "Examples":
        """More vectors that teach and are never judged."""
        return Examples(
            np.concatenate([self.x, x]),
            np.concatenate([self.y, y]),
            np.concatenate([self.rows, rows]),
            np.concatenate([self.judged, np.zeros(len(x), dtype=np.bool_)]),
        )

    def problem(self, kind: Kind, n_labels: int, weights: ClassWeights, seed: int) -> Problem:
        """For a method to fit."""
        return Problem(
            self.x, self.y, kind, n_labels, _weights(self.y, kind, n_labels, weights), seed
        )

    def folds(self, strata: Sequence[str], groups: NDArray[np.int64], seed: int) -> list[Fold]:
        """Make folds for cross-validation from the stratum and the group of each training row."""
        # A row's class must be taught in every fold. A label or tag may be missing from one, and a
        # few rows of a rare one shall not halve what all are judged by.
        rows = self.rows[self.judged]
        is_per_row = len(np.unique(rows)) == len(rows)
        least = 2 if self.y.ndim == 1 and is_per_row else MAX_FOLDS
        return make_folds(strata, groups, self.rows, self.judged, seed, least)


def of_rows(x: NDArray[np.float32], y: NDArray[Any]) -> Examples:
    """A vector a row."""
    return Examples(x, y, np.arange(len(x)), np.ones(len(x), dtype=np.bool_))


def of_tokens(features: Sequence[NDArray[np.float32]], y: NDArray[Any]) -> Examples:
    """A vector a token, of rows with vectors [t, d] each."""
    rows = np.repeat(np.arange(len(features)), [len(each) for each in features])
    return Examples(np.concatenate(features), y, rows, np.ones(len(rows), dtype=np.bool_))


def name_as_text(label: str) -> str | None:
    """A label's name as somebody would write it; None for a code.

    "card_arrival" and "cardArrival" become "card arrival".
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)
    text = " ".join(re.sub(r"[_\-./:]+", " ", spaced).split())
    return text if _WORD.search(text) else None


def _weights(
    y: NDArray[Any], kind: Kind, n_labels: int, weights: ClassWeights
) -> NDArray[np.float64]:
    """[m], of mean 1; balanced: each label has the same sum, as in scikit-learn."""
    if weights == "none" or kind not in (CLASS, LABELS):
        return np.ones(len(y))
    if kind == CLASS:
        counts = np.bincount(y, minlength=n_labels)
        found: NDArray[np.float64] = (len(y) / (n_labels * np.maximum(counts, 1)))[y]
        return found
    shares = np.maximum(y.sum(axis=0), 1) / len(y)
    # A row weighs what its rarest label does; one without labels as the commonest.
    rarity = np.where(y > 0, 1 / shares, 1 / shares.max()).max(axis=1)
    balanced: NDArray[np.float64] = rarity / rarity.mean()
    return balanced
