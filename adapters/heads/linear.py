"""Multinomial logistic regression: softmax((W x + b) / T)."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from adapters.errors import InvalidAdapter
from adapters.heads.base import HeadFailed, Tensors
from adapters.manifest import Manifest


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """Weight [n_labels, d] and bias [n_labels], float32; temperature after Guo et al. 2017."""

    TENSORS: ClassVar[frozenset[str]] = frozenset({"head.weight", "head.bias"})

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float

    @classmethod
    def build(cls, manifest: Manifest, tensors: Tensors, width: int) -> Self:
        """Check shapes; raises InvalidAdapter."""
        n_labels = len(manifest.labels)
        for name, shape in (("head.weight", (n_labels, width)), ("head.bias", (n_labels,))):
            if tensors[name].shape != shape:
                raise InvalidAdapter(
                    f"tensor {name!r} has shape {list(tensors[name].shape)}; {n_labels} labels on "
                    f"a feature of width {width} need {list(shape)}"
                )
        temperature = manifest.calibration.temperature
        return cls(tensors["head.weight"], tensors["head.bias"], temperature)

    def score(self, feature: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities [n_labels] of one row's feature [d]; raises HeadFailed."""
        with np.errstate(over="ignore", invalid="ignore"):  # judged below, as one error
            # einsum, not BLAS: BLAS may split the sum by its number of threads, and then bits
            # would depend on a setting. It costs 2 to 10 µs a row.
            logits = np.einsum("ij,j->i", self.weight, feature) + self.bias
            scaled = logits.astype(np.float64) / self.temperature
            exponentials = np.exp(scaled - scaled.max())
            scores: NDArray[np.float32] = (exponentials / exponentials.sum()).astype(np.float32)
        if not np.isfinite(scores).all():
            raise HeadFailed("the adapter's weights are too large for this row: a score overflowed")
        return scores
