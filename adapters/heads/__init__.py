"""The closed catalogue of heads: what an adapter computes from a backbone's features, in NumPy."""

from adapters.heads.base import Head, HeadFailed, Tensors
from adapters.heads.centroid import CentroidHead
from adapters.heads.knn import KnnHead
from adapters.heads.linear import LinearHead
from adapters.heads.mlp import MlpHead
from adapters.manifest import HeadName

HEADS: dict[HeadName, type[Head]] = {
    "linear": LinearHead,
    "mlp": MlpHead,
    "centroid": CentroidHead,
    "knn": KnnHead,
}

__all__ = [
    "HEADS",
    "CentroidHead",
    "Head",
    "HeadFailed",
    "KnnHead",
    "LinearHead",
    "MlpHead",
    "Tensors",
]
