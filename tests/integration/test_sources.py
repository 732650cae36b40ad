"""Backbones from Hugging Face folders, exported through torch for real, and a hub that is away."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from backbone import Backbone, BackboneError
from tests.encoders import save_model
from training.backbones import hub, sources
from training.backbones.add import add_from_folder
from training.backbones.catalog import minilm


def add(folder: Path, root: Path) -> Backbone:
    found = sources.resolve(str(folder), None)
    return add_from_folder(found.path, found.source, root, "small", lambda _: None).backbone


def test_pooling_and_length_of_sentence_transformers_are_kept(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "bert", "bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 16, "pooling_mode_cls_token": True})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    backbone = add(folder, tmp_path / "backbones")
    assert backbone.manifest.preprocessing.max_length == 12
    assert backbone.manifest.source.license == "mit"
    row = backbone.preprocess("where is my order")
    features = backbone.run([row], {"pooled", "tokens"})
    assert np.array_equal(features["pooled"][0], features["tokens"][0, 0])


def test_weights_that_are_not_the_pinned_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(tmp_path / "bert", "bert")
    monkeypatch.setattr(minilm, "installed_folder", lambda: folder)
    for name in ("minilm", "sentence-transformers/all-MiniLM-L6-v2"):
        with pytest.raises(BackboneError, match="not the pinned"):
            sources.resolve(name, None)


def test_without_package_and_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise httpx.ConnectError("away")

    monkeypatch.setattr(minilm, "installed_folder", lambda: None)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", away)
    monkeypatch.setattr(hub, "_kept", lambda *_: None)
    with pytest.raises(BackboneError, match=r"away; .* pip install 'headstock\[demo\]'"):
        sources.resolve("minilm", None)


def test_without_a_hub_a_named_revision_comes_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise httpx.ConnectError("away")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", away)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model, commit = tmp_path / "models--some--model", "c" * 40
    folder = model / "snapshots" / commit
    save_model(folder, "bert")
    (model / "refs").mkdir()
    (model / "refs" / "v1").write_text(commit)
    for revision in ("v1", commit):
        found = sources.resolve("some/model", revision)
        assert found.path.samefile(folder)
        assert found.source.revision == commit
    for absent in (None, "v2", "d" * 40):
        with pytest.raises(BackboneError, match=r"cannot get some/model .*: away"):
            sources.resolve("some/model", absent)


def test_no_hub_is_a_clear_error_within_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "headstock", "backbone", "add", "some/model", "--name", "x"],
        env={**os.environ, "HEADSTOCK_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot get some/model from the Hugging Face hub" in done.stderr
    assert time.monotonic() - started < 15
