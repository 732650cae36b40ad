"""Ways of fitting a head to features: one a file, chosen and calibrated in `select`."""

from training.heads.base import Fold, Method, MethodName, Problem
from training.heads.logistic import Logistic
from training.heads.select import Fit, fit_head

METHODS: dict[MethodName, Method] = {"logistic": Logistic()}

__all__ = ["METHODS", "Fit", "Fold", "Logistic", "Method", "MethodName", "Problem", "fit_head"]
