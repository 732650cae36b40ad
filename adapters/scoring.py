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
    """What an adapter computes. Each vector is computed as if it were alone, to the bit.

    `mix` [L] are the weights of layers where it takes several.
    """

    head: Head
    task: Task
    mix: Floats | None = None

    def score(self, feature: Floats) -> Floats:
        """Scores of one row's feature: as `score_vector`, after the mix of [L, d] to [d]."""
        return self.score_vector(feature if self.mix is None else mix_layers(self.mix, feature))

    def score_vector(self, vector: Floats) -> Floats:
        """Scores [C] of what the head takes, [d]; of a tagging adapter also [t, C] of [t, d].

        Raises:
            HeadFailed: a raw output is not finite.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # judged below, as one error
            raw = self.head.raw(vector)
        if not np.isfinite(raw).all():
            raise HeadFailed("the adapter's weights are too large for this row: a score overflowed")
        return self.task.scores(raw)

    def answer(self, feature: Floats, top_k: int) -> Answer:
        """The answer to one row's feature; raises HeadFailed."""
        return self.task.answer(self.score(feature), top_k)


def mix_layers(mix: Floats, layers: Floats) -> Floats:
    """One row's layers [L, d] to the vector [d] that is their sum, each times its weight of [L].

    Not a product of matrices: of a single row `einsum` has the same bits on any number of threads.
    """
    mixed: Floats = np.einsum("l,ld->d", mix, layers)
    return mixed


def build_scorer(manifest: Manifest, tensors: Tensors, width: int) -> Scorer:
    """Check the head's tensors and put it together. Raises InvalidAdapter.

    Tensors in another order of memory than a file's are copied: sums over them would have other
    bits than after the file is read. Those of a file stay views of it.
    """
    in_order = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    head = HEADS[manifest.head].build(manifest, in_order, width)
    mix = None if manifest.mix is None else np.array(manifest.mix, dtype=np.float32)
    return Scorer(head, TASKS[manifest.task].build(manifest), mix)
