"""Rows that belong together: a fold, or a split, has all of a group on one side."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.splits import normalise


def group_texts(texts: Sequence[str]) -> NDArray[np.int64]:
    """Number the groups of texts that are equal after `normalise`: [n], from 0, as they come."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(normalise(text), len(numbers)) for text in texts]
    return np.array(found, dtype=np.int64)
