"""A head and a task put together: from a feature to scores and to an answer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.answers import Answer
from adapters.heads import HEADS, Head, HeadFailed, Tensors
from adapters.manifest import Manifest
from adapters.tasks import TASKS, Task

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """What an adapter computes. Each vector is computed as if it were alone, to the bit."""

    head: Head
    task: Task

    def score(self, feature: Floats) -> Floats:
        """Scores [C] of one vector [d]; of a tagging adapter also [t, C] of [t, d].

        Raises:
            HeadFailed: a raw output is not finite.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # judged below, as one error
            raw = self.head.raw(feature)
        if not np.isfinite(raw).all():
            raise HeadFailed("the adapter's weights are too large for this row: a score overflowed")
        return self.task.scores(raw)

    def answer(self, feature: Floats, top_k: int) -> Answer:
        """The answer of one row's feature [d], or [t, d] for tagging; raises HeadFailed."""
        return self.task.answer(self.score(feature), top_k)


def build_scorer(manifest: Manifest, tensors: Tensors, width: int) -> Scorer:
    """Check the head's tensors and put it together. Raises InvalidAdapter.

    Tensors in another order of memory than a file's are copied: sums over them would have other
    bits than after the file is read. Those of a file stay views of it.
    """
    in_order = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    head = HEADS[manifest.head].build(manifest, in_order, width)
    return Scorer(head, TASKS[manifest.task].build(manifest))
