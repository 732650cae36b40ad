"""k nearest neighbours among stored training vectors."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from adapters.errors import InvalidAdapter
from adapters.heads.base import Floats, Tensors, check_shape, describe
from adapters.heads.similarity import Similarity
from adapters.manifest import Manifest


@dataclass(frozen=True, slots=True, eq=False)
class KnnHead:
    """Stored vectors [m, d] with the number of each one's label [m], whole numbers as float32."""

    TENSORS: ClassVar[frozenset[str]] = frozenset({"head.vectors", "head.vector_labels"})

    vectors: Similarity
    labels: Floats
    n_labels: int
    k: int
    scale: float

    @classmethod
    def build(cls, manifest: Manifest, tensors: Tensors, width: int) -> Self:
        """Check shapes and label numbers; raises InvalidAdapter."""
        settings = manifest.knn
        assert settings is not None, "a manifest with this head has them"
        rows = len(tensors["head.vectors"])
        because = f"{describe(manifest, width)} with {rows} stored vectors"
        vectors = check_shape(tensors, "head.vectors", (rows, width), because)
        labels = check_shape(tensors, "head.vector_labels", (rows,), because)
        n_labels = len(manifest.labels)
        if (labels != np.floor(labels)).any() or labels.min() < 0 or labels.max() >= n_labels:
            raise InvalidAdapter(
                f"tensor 'head.vector_labels' holds label numbers: whole, from 0 to {n_labels - 1}"
            )
        if settings.k > rows:
            raise InvalidAdapter(f"knn.k is {settings.k}, and {rows} vectors are stored")
        similarity = Similarity.build(vectors, settings.metric)
        return cls(similarity, labels, n_labels, settings.k, settings.scale)

    def raw(self, feature: Floats) -> Floats:
        """The logarithm of each label's votes [C] for one vector [d].

        Beside the k neighbours' votes one vote is shared by all labels, so that none has nothing
        (the m-estimate of Cestnik 1990 with m = 1).
        """
        similarities = self.vectors.of(feature)
        if not np.isfinite(similarities).all():
            return np.full(self.n_labels, np.nan, dtype=np.float32)  # there is no order to go by
        nearest = nearest_places(similarities, self.k)
        weights = np.exp(self.scale * (similarities[nearest] - similarities[nearest[0]]))
        labels = self.labels[nearest].astype(np.intp)
        votes = np.bincount(labels, weights=weights, minlength=self.n_labels)
        raw: Floats = np.log(votes + 1 / self.n_labels).astype(np.float32)
        return raw


def nearest_places(similarities: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """Places of the k largest, largest first; of equal ones the first stored."""
    last = np.partition(similarities, len(similarities) - k)[len(similarities) - k]
    candidates = np.flatnonzero(similarities >= last)
    order = np.argsort(-similarities[candidates], kind="stable")[:k]
    nearest: NDArray[np.intp] = candidates[order]
    return nearest
