"""The order of rows and the learning rate: pure functions of seed and step."""

import math
from collections.abc import Sequence

import numpy as np

_POOL_BATCHES = 8  # rows of near length go together within so many batches


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Of the peak rate at `step` of 0..steps-1: a linear rise, then a cosine to zero."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def shuffled_batches(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """All places once, in batches whose rows are near in length, in random order."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[list[int]] = []
    pool = batch * _POOL_BATCHES
    for start in range(0, len(order), pool):
        near = sorted(order[start : start + pool].tolist(), key=lambda place: lengths[place])
        batches += [near[at : at + batch] for at in range(0, len(near), batch)]
    return [batches[place] for place in random.permutation(len(batches))]


def class_batches(
    classes: Sequence[int], batch: int, seed: int, epoch: int, rows_a_class: int = 4
) -> list[list[int]]:
    """As many rows as an epoch has, in batches with several rows of each class that is in them.

    For contrastive learning, which needs rows that belong together in one batch.
    """
    random = np.random.default_rng([seed, epoch])
    y = np.asarray(classes)
    members = {int(label): np.flatnonzero(y == label) for label in np.unique(y)}
    n_classes = max(2, min(len(members), batch // rows_a_class))
    batches = []
    for _ in range(max(1, len(y) // batch)):
        drawn = random.choice(list(members), size=min(n_classes, len(members)), replace=False)
        places = [
            random.choice(
                members[label], size=min(rows_a_class, len(members[label])), replace=False
            )
            for label in drawn.tolist()
        ]
        batches.append(np.concatenate(places).tolist())
    return batches
