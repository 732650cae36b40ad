"""The closed catalogue of heads: what an adapter computes from a backbone's features, in NumPy."""

from adapters.heads.base import Head, HeadFailed, Tensors
from adapters.heads.linear import LinearHead

HEADS: dict[str, type[Head]] = {"linear": LinearHead}

__all__ = ["HEADS", "Head", "HeadFailed", "LinearHead", "Tensors"]
