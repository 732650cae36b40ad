"""Nearest centroid: scale times the similarity to each label's centroid (Snell et al. 2017)."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from adapters.heads.base import Floats, Tensors, check_shape, describe
from adapters.heads.similarity import Similarity
from adapters.manifest import Manifest


@dataclass(frozen=True, slots=True, eq=False)
class CentroidHead:
    """Centroids [C, d], one a label in the labels' order."""

    TENSORS: ClassVar[frozenset[str]] = frozenset({"head.centroids"})

    centroids: Similarity
    scale: float

    @classmethod
    def build(cls, manifest: Manifest, tensors: Tensors, width: int) -> Self:
        """Check shapes; raises InvalidAdapter."""
        settings = manifest.centroid
        assert settings is not None, "a manifest with this head has them"
        shape = (len(manifest.labels), width)
        centroids = check_shape(tensors, "head.centroids", shape, describe(manifest, width))
        return cls(Similarity.build(centroids, settings.metric), settings.scale)

    def raw(self, feature: Floats) -> Floats:
        """Raw outputs [C] of one vector [d]."""
        return (self.scale * self.centroids.of(feature)).astype(np.float32)
