"""What a frozen backbone is, shared to the bit by serving and training. Imports nothing of ours.

All but its errors is imported when it is first asked for: ONNX Runtime and NumPy would be half of
the start of every command that only talks to a server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from backbone.errors import BackboneError, BackboneNotFound
from backbone.telemetry import disable_telemetry

if TYPE_CHECKING:
    from backbone.lora import MAX_RANK, LoraPool, PlacedLora
    from backbone.manifest import Manifest
    from backbone.package import find_backbone, list_backbones, load_backbone
    from backbone.runtime import Backbone, Features
    from backbone.text import Spans, TextRow

__all__ = [
    "MAX_RANK",
    "Backbone",
    "BackboneError",
    "BackboneNotFound",
    "Features",
    "LoraPool",
    "Manifest",
    "PlacedLora",
    "Spans",
    "TextRow",
    "find_backbone",
    "list_backbones",
    "load_backbone",
]
disable_telemetry()

_HOMES = {
    "lora": ("MAX_RANK", "LoraPool", "PlacedLora"),
    "manifest": ("Manifest",),
    "package": ("find_backbone", "list_backbones", "load_backbone"),
    "runtime": ("Backbone", "Features"),
    "text": ("Spans", "TextRow"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"backbone.{module}"), name)
    raise AttributeError(f"module 'backbone' has no attribute {name!r}")
