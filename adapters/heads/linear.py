"""A linear map: W x + b."""

from dataclasses import dataclass
from typing import ClassVar, Self

from adapters.heads.base import Floats, Tensors, affine, check_shape, describe
from adapters.manifest import Manifest


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """Weight [C, d] and bias [C]."""

    TENSORS: ClassVar[frozenset[str]] = frozenset({"head.weight", "head.bias"})

    weight: Floats
    bias: Floats

    @classmethod
    def build(cls, manifest: Manifest, tensors: Tensors, width: int) -> Self:
        """Check shapes; raises InvalidAdapter."""
        n_labels, because = len(manifest.labels), describe(manifest, width)
        return cls(
            check_shape(tensors, "head.weight", (n_labels, width), because),
            check_shape(tensors, "head.bias", (n_labels,), because),
        )

    def raw(self, feature: Floats) -> Floats:
        """Raw outputs [..., C] of vectors [..., d]."""
        return affine(self.weight, self.bias, feature)
