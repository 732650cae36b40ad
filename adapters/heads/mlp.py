"""A perceptron with one hidden layer: W2 max(W1 x + b1, 0) + b2."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from adapters.errors import InvalidAdapter
from adapters.heads.base import Floats, Tensors, affine, check_shape, describe
from adapters.manifest import Manifest

MAX_HIDDEN = 4096


@dataclass(frozen=True, slots=True, eq=False)
class MlpHead:
    """Hidden weight [h, d] and bias [h], ReLU, weight [C, h] and bias [C]; the file says h."""

    TENSORS: ClassVar[frozenset[str]] = frozenset(
        {"head.hidden.weight", "head.hidden.bias", "head.weight", "head.bias"}
    )

    hidden_weight: Floats
    hidden_bias: Floats
    weight: Floats
    bias: Floats

    @classmethod
    def build(cls, manifest: Manifest, tensors: Tensors, width: int) -> Self:
        """Check shapes; raises InvalidAdapter."""
        hidden = len(tensors["head.hidden.weight"])
        if hidden > MAX_HIDDEN:
            raise InvalidAdapter(
                f"tensor 'head.hidden.weight' makes {hidden} hidden units; {MAX_HIDDEN} are allowed"
            )
        n_labels = len(manifest.labels)
        because = f"{describe(manifest, width)} with {hidden} hidden units"
        return cls(
            check_shape(tensors, "head.hidden.weight", (hidden, width), because),
            check_shape(tensors, "head.hidden.bias", (hidden,), because),
            check_shape(tensors, "head.weight", (n_labels, hidden), because),
            check_shape(tensors, "head.bias", (n_labels,), because),
        )

    def raw(self, feature: Floats) -> Floats:
        """Raw outputs [..., C] of vectors [..., d]."""
        hidden = affine(self.hidden_weight, self.hidden_bias, feature)
        return affine(self.weight, self.bias, np.maximum(hidden, 0))
