"""Thresholds: the scores from which labels apply."""

import numpy as np
from numpy.typing import NDArray

# As many positive rows the scores' own expectation counts for. Thresholds of the best F1 of few
# rows fit chance: in simulations of a label with 3 to 50 positive rows they lost up to 0.035 of F1
# on new rows to these, and won up to 0.011; a fixed 0.5 lost up to 0.18 where the label was rare
# and hard to tell, and won up to 0.027 where it was not.
PRIOR_POSITIVES = 10.0

Floats = NDArray[np.float64]


def best_thresholds(scores: NDArray[np.float32], applies: Floats) -> tuple[float, ...]:
    """A threshold in [0, 1] for each label; scores and what applies, 0 or 1, are [n, C].

    It has the best F1, where a row counts as what it is and, with the weight of PRIOR_POSITIVES
    rows, as its score says. It is a float32: float32 scores that reach it are those that did here.
    """
    pairs = zip(scores.T, applies.T, strict=True)
    return tuple(_best_threshold(of_label, truth) for of_label, truth in pairs)


def _best_threshold(scores: NDArray[np.float32], applies: Floats) -> float:
    order = np.argsort(-scores, kind="stable")
    scores, truth = scores[order], applies[order]
    positive = truth.sum()
    expected = (positive * truth + PRIOR_POSITIVES * scores) / (positive + PRIOR_POSITIVES)
    f1 = 2 * expected.cumsum() / (np.arange(1, len(scores) + 1) + expected.sum())
    below = np.append(scores[1:], np.float32(0))
    f1[scores == below] = -1.0  # equal scores stand on one side
    cut = int(f1.argmax())
    if scores[cut] == 0:  # all are 0, and nothing parts them
        return 0.5
    middle = np.float32((float(scores[cut]) + float(below[cut])) / 2)
    # Between neighbouring floats there is no middle: it rounds to one of them.
    return float(middle if middle > below[cut] else scores[cut])
