"""Whether LoRA belongs to a backbone's weights, as far as its folder tells."""

import hashlib
import json
from pathlib import Path

import pytest

from adapters.manifest import Finding
from backbone import Manifest
from backbone.manifest import Source, TextPreprocessing
from tests.peft_folders import CONFIG
from training.errors import InvalidPeft
from training.peft.base import check_base
from training.peft.config import parse_config

WEIGHTS = b"the weights"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def compared(
    base: str | None, identity: str = MINILM, kind: str = "huggingface"
) -> tuple[Finding, ...]:
    weights = hashlib.sha256(WEIGHTS).hexdigest()
    source = Source.model_validate({"kind": kind, "id": identity, "weights_sha256": weights})
    settings = TextPreprocessing(max_length=8, pad_id=0)
    manifest = Manifest(name="mine", source=source, preprocessing=settings, features={}, files={})
    return check_base(
        parse_config(json.dumps({**CONFIG, "base_model_name_or_path": base})), manifest
    )


@pytest.mark.parametrize(
    ("base", "identity"),
    [
        (MINILM, MINILM),
        (MINILM.lower(), MINILM),
        ("bert-base-uncased", "google-bert/bert-base-uncased"),  # as the hub called it once
    ],
)
def test_the_same_id_needs_no_word(base: str, identity: str) -> None:
    assert compared(base, identity) == ()


@pytest.mark.parametrize(
    "base",
    ["bert-base-uncased", "other/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L12-v2"],
)
def test_another_id_is_refused(base: str) -> None:
    with pytest.raises(InvalidPeft, match=f"trained on '{base}', and backbone mine.*--any-base"):
        compared(base)


@pytest.mark.parametrize(
    "base",
    [None, "", "/srv/models/minilm", "./minilm", "C:\\minilm", "/" + "x" * 5000, "a\x00b", ".."],
)
def test_what_cannot_be_compared_is_noted(base: str | None) -> None:
    (finding,) = compared(base)
    assert "that these are the same weights cannot be told" in finding.text


@pytest.mark.parametrize("kind", ["folder", "onnx"])
def test_a_backbone_without_an_id_cannot_be_compared(kind: str) -> None:
    (finding,) = compared("bert-base-uncased", "bert-base-uncased", kind)
    assert f"comes from {kind} 'bert-base-uncased'" in finding.text


@pytest.mark.parametrize("kind", ["huggingface", "folder"])
def test_a_local_base_model_is_compared_by_its_weights(tmp_path: Path, kind: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    assert compared(str(tmp_path), kind=kind) == ()
    (tmp_path / "model.safetensors").write_bytes(b"others")
    with pytest.raises(InvalidPeft, match=r"trained on the weights in .*, and backbone mine"):
        compared(str(tmp_path), kind=kind)
