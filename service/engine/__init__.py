"""The running backbone: its queue, its batches, its resident adapters."""

from service.engine.engine import Engine, EngineLimits
from service.engine.feature_cache import FeatureCache
from service.engine.residency import ResidentAdapters

__all__ = ["Engine", "EngineLimits", "FeatureCache", "ResidentAdapters"]
