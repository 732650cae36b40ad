"""What LoRA is trained on and judged by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbone import TextRow


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Preprocessed rows with their encoded targets.

    `y` and `weights` [m] are of the rows' vectors: one a row, or one a token that has a tag, in
    the rows' order; `starts` [n + 1] says where each row's begin.
    """

    rows: Sequence[TextRow]
    y: NDArray[Any]
    weights: NDArray[np.float64]
    starts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        sizes = [1 if row.spans is None else len(row.spans.positions) for row in self.rows]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        object.__setattr__(self, "starts", starts)

    def pick(self, places: Sequence[int]) -> "Material":
        """Some of the rows."""
        vectors = [np.arange(self.starts[each], self.starts[each + 1]) for each in places]
        inside = np.concatenate(vectors)
        return Material([self.rows[each] for each in places], self.y[inside], self.weights[inside])
