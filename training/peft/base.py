"""Whether a PEFT folder's LoRA was trained on the weights that a backbone has."""

import re
from pathlib import Path

from adapters.manifest import Finding
from backbone import BackboneError, Manifest
from training.backbones.folder import weights_sha256
from training.errors import InvalidPeft
from training.findings import make_finding
from training.peft.config import PeftConfig

_HUB_ID = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*")  # a path begins with / or . or C:


def check_base(config: PeftConfig, manifest: Manifest) -> tuple[Finding, ...]:
    """Compare the base models of LoRA and backbone; a finding where that cannot be told.

    Equal widths and names prove nothing: all models of a family have them.

    Raises:
        InvalidPeft: the LoRA names another base model than the backbone was made of.
    """
    base, source = config.base_model_name_or_path or "", manifest.source
    if base and (weights := _weights_in(base)):
        if weights != source.weights_sha256:
            raise _other(f"the weights in {base}", manifest)
        return ()
    if source.kind == "huggingface" and _HUB_ID.fullmatch(base):
        if not _same_id(base, source.id):
            raise _other(f"{base[:120]!a}", manifest)
        return ()
    named = f"{base[:120]!a}" if base else "no base model"
    unknown = make_finding(
        "lora-base-unknown",
        f"the LoRA names {named}, and backbone {manifest.name} comes from {source.kind} "
        f"{source.id[:200]!r}: that these are the same weights cannot be told from it",
    )
    return (unknown,)


def _weights_in(base: str) -> str | None:
    """The sha256 of a folder's weights; None where it is no such folder."""
    try:
        return weights_sha256(Path(base))
    except (OSError, BackboneError):  # a name that no file can have
        return None


def _same_id(one: str, other: str) -> bool:
    """Ids as the hub takes them: in any case, and old models without their owner."""
    pair = [each.casefold().split("/") for each in (one, other)]
    if len(pair[0]) != len(pair[1]):
        pair = [each[-1:] for each in pair]
    return pair[0] == pair[1]


def _other(base: str, manifest: Manifest) -> InvalidPeft:
    return InvalidPeft(
        f"the LoRA was trained on {base}, and backbone {manifest.name} comes from "
        f"{manifest.source.id!r}: on other weights it means nothing. If they are the same under "
        "two names, say so with --any-base"
    )
