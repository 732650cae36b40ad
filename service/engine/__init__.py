"""The running backbone: its queue, its batches, its resident adapters."""

from service.engine.engine import Engine, EngineLimits
from service.engine.feature_cache import FeatureCache
from service.engine.job import Answers, Job
from service.engine.residency import ResidentAdapters
from service.engine.tuning import Plan, Tuned, tune

__all__ = [
    "Answers",
    "Engine",
    "EngineLimits",
    "FeatureCache",
    "Job",
    "Plan",
    "ResidentAdapters",
    "Tuned",
    "tune",
]
