"""Ways of fitting a head: one a file, chosen and calibrated in `select`."""

from training.heads.base import Fold, Method, MethodName, Problem
from training.heads.centroid import Centroid
from training.heads.knn import Knn
from training.heads.logistic import Logistic
from training.heads.mlp import Mlp
from training.heads.ridge import Ridge
from training.heads.select import Chosen, Fit, choose_head, fit_chosen, fit_head

METHODS: dict[MethodName, Method] = {
    "logistic": Logistic(),
    "ridge": Ridge(),
    "centroid": Centroid(),
    "knn": Knn(),
    "mlp": Mlp(),
}

__all__ = [
    "METHODS",
    "Centroid",
    "Chosen",
    "Fit",
    "Fold",
    "Knn",
    "Logistic",
    "Method",
    "MethodName",
    "Mlp",
    "Problem",
    "Ridge",
    "choose_head",
    "fit_chosen",
    "fit_head",
]
