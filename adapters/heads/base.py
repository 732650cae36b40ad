"""What every head is."""

from collections.abc import Mapping
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from adapters.errors import HeadstockError
from adapters.manifest import Manifest

Tensors = Mapping[str, NDArray[np.float32]]


class HeadFailed(HeadstockError):
    """A head gave no finite scores for a row; other rows are not concerned."""

    code = "head-failed"


class Head(Protocol):
    """Features to scores. Immutable, and safe to call from several threads."""

    TENSORS: ClassVar[frozenset[str]]

    @classmethod
    def build(cls, manifest: Manifest, tensors: Tensors, width: int) -> Self:
        """Check the tensors' shapes against the manifest and the feature's width.

        Raises:
            InvalidAdapter: a shape does not fit.
        """
        ...

    def score(self, feature: NDArray[np.float32]) -> NDArray[np.float32]:
        """One row's feature [d] to its scores [n_labels], float32.

        One row at a time on purpose: a matrix product gives a row other bits for other numbers of
        rows, and neighbours must never change an answer.

        Raises:
            HeadFailed: a score is not finite.
        """
        ...
