"""What a fitted head gives, as a server computes it."""

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import Calibration, Manifest
from adapters.scoring import build_scorer
from training.features import POOLED
from training.heads.base import FittedHead, Floats


def raw_outputs(head: FittedHead, n_classes: int, x: NDArray[np.float32]) -> Floats:
    """Raw outputs [m, C] for vectors x [m, d] of a head of classes."""
    manifest = Manifest(
        head=head.head,
        backbone="0" * 64,  # that no backbone has
        feature=POOLED,
        labels=tuple(map(str, range(n_classes))),
        calibration=Calibration(temperature=1.0),
        centroid=head.centroid,
        knn=head.knn,
    )
    scorer = build_scorer(manifest, head.tensors, x.shape[1])
    return np.stack([scorer.head.raw(vector) for vector in x]).astype(np.float64)
