"""Whether a PEFT folder's LoRA was trained on the weights that a backbone has."""

import re
from pathlib import Path

from backbone import Manifest
from backbone.files import file_sha256
from training.backbones.sources import WEIGHTS
from training.errors import InvalidPeft
from training.peft.config import PeftConfig

_HUB_ID = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*")  # a path begins with / or . or C:


def check_base(config: PeftConfig, manifest: Manifest) -> tuple[str, ...]:
    """Notes where it cannot be told.

    Equal widths and names prove nothing: all models of a family have them.

    Raises:
        InvalidPeft: the LoRA names another base model than the backbone was made of.
    """
    base, source = config.base_model_name_or_path or "", manifest.source
    weights = Path(base) / WEIGHTS
    if base and _is_file(weights):
        if file_sha256(weights) != source.weights_sha256:
            raise _other(f"{weights}, which is not the file", manifest)
        return ()
    if source.kind == "huggingface" and _HUB_ID.fullmatch(base):
        if not _same_id(base, source.id):
            raise _other(f"{base[:120]!a}", manifest)
        return ()
    named = f"{base[:120]!a}" if base else "no base model"
    return (
        f"the LoRA names {named}, and backbone {manifest.name} comes from {source.kind} "
        f"{source.id!r}: that these are the same weights cannot be told from it",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


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
