"""What a frozen backbone is, shared to the bit by serving and training. Imports nothing of ours."""

from backbone.errors import BackboneError, BackboneNotFound
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
