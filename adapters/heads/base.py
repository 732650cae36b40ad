"""What every head is, and the products that heads are made of."""

from collections.abc import Mapping
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from adapters.errors import HeadstockError, InvalidAdapter
from adapters.manifest import Manifest

Floats = NDArray[np.float32]
Tensors = Mapping[str, Floats]


class HeadFailed(HeadstockError):
    """A head gave no finite scores for a row; other rows are not concerned."""

    code = "head-failed"


class Head(Protocol):
    """One vector to raw outputs. Immutable, and safe to call from several threads."""

    TENSORS: ClassVar[frozenset[str]]

    @classmethod
    def build(cls, manifest: Manifest, tensors: Tensors, width: int) -> Self:
        """Check the tensors' shapes against the manifest and the feature's width.

        Raises:
            InvalidAdapter: a shape or a value does not fit.
        """
        ...

    def raw(self, feature: Floats) -> Floats:
        """One vector [d] to raw outputs [C], float32; not finite where the weights overflow.

        Heads that may tag take [t, d] to [t, C] too, each vector with the bits that it has alone.
        """
        ...


def affine(weight: Floats, bias: Floats, vectors: Floats) -> Floats:
    """W x + b for vectors [..., d], weight [m, d], bias [m]: [..., m].

    einsum, not BLAS: a matrix product gives a vector other bits for other numbers of vectors, and
    BLAS may split a sum by its number of threads; neighbours must never change an answer. It costs
    2 to 10 µs a vector, less for each of many.
    """
    product: Floats = np.einsum("ij,...j->...i", weight, vectors)
    return product + bias


def check_shape(tensors: Tensors, name: str, shape: tuple[int, ...], because: str) -> Floats:
    """The tensor `name`. Raises InvalidAdapter where its shape is another."""
    if tensors[name].shape != shape:
        raise InvalidAdapter(
            f"tensor {name!r} has shape {list(tensors[name].shape)}; {because} need {list(shape)}"
        )
    return tensors[name]


def describe(manifest: Manifest, width: int) -> str:
    """What the shapes of a head follow from, for its messages."""
    return f"{len(manifest.labels)} labels on a feature of width {width}"
