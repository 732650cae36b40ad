"""A mix of an encoder's layers on its whole way: exported, trained, uploaded, asked over HTTP."""

import json
from pathlib import Path

import numpy as np
import pytest

from adapters.adapter import read_adapter
from backbone import Backbone
from tests.encoders import save_model
from tests.integration.server import Server, predict, upload
from training.backbones import sources
from training.backbones.add import add_from_folder
from training.backbones.export import load_encoder, reference_features
from training.backbones.packing import Build
from training.data.rows import Columns
from training.evaluate import evaluate_adapter
from training.features import FeatureCache, Progress
from training.recipe import Recipe
from training.train import train_adapter

WORDS = ["where", "is", "my", "order", "the", "a", "refund"]
TEXTS = ("where is my order", "a refund", "")


def stage(_: str) -> Progress:
    return lambda *_: None


def add(folder: Path, root: Path, build: Build) -> Backbone:
    found = sources.resolve(str(folder), None)
    return add_from_folder(found.path, found.source, root, "small", lambda _: None, False, build)[0]


def test_layers_are_exported_as_torch_computes_them(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "mpnet", "mpnet")  # BERT has its turn below
    backbone = add(folder, tmp_path / "with", Build(layers=True))
    plain = add(folder, tmp_path / "without", Build())
    assert backbone.manifest.features["layers"].dims == ("n", 3, 16)
    assert backbone.manifest.sites == plain.manifest.sites
    assert set(plain.manifest.features) == {"tokens", "pooled"}
    for text in TEXTS:
        row = backbone.preprocess(text)
        ours = backbone.run([row], ["layers", "pooled"])
        theirs = reference_features(load_encoder(folder), row.ids.tolist(), with_layers=True)
        assert ours["layers"][0] == pytest.approx(theirs["layers"], abs=1e-4)
        assert np.array_equal(ours["layers"][0, -1], ours["pooled"][0])
        assert np.array_equal(ours["pooled"], plain.run([row], ["pooled"])["pooled"])
        assert len({layer.tobytes() for layer in ours["layers"][0]}) == 3


def test_first_tokens_and_int8_have_layers_too(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "bert", "bert")
    pooling = folder / "1_Pooling" / "config.json"
    pooling.parent.mkdir()
    pooling.write_text(json.dumps({"pooling_mode_cls_token": True}))
    backbone = add(folder, tmp_path / "backbones", Build("int8", layers=True))
    assert backbone.manifest.lora
    row = backbone.preprocess(TEXTS[0])
    ours = backbone.run([row], ["layers", "tokens"])
    theirs = reference_features(load_encoder(folder), row.ids.tolist(), with_layers=True)
    assert np.array_equal(ours["layers"][0, -1], ours["tokens"][0, 0])
    assert ours["layers"][0, 0] == pytest.approx(theirs["layers"][0], abs=1e-4)  # no product yet
    assert ours["layers"][0] == pytest.approx(theirs["layers"], abs=0.1)


def write_rows(path: Path, backbone: Backbone) -> list[str]:
    """Random texts, labelled by what the embedding linearly tells; the test texts."""
    random = np.random.default_rng(1)
    texts = [" ".join(random.choice(WORDS, size=random.integers(3, 20))) for _ in range(360)]
    rows = [backbone.preprocess(text) for text in texts]
    values = backbone.run(rows, ["layers"])["layers"][:, 0] @ random.standard_normal(16)
    labels = ["more" if value > np.median(values) else "less" for value in values]
    lines = [
        json.dumps({"text": text, "label": label, "split": "train" if n < 300 else "test"})
        for n, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    path.write_text("\n".join(lines))
    return texts[300:]


def test_a_served_mix_answers_as_it_was_evaluated(tmp_path: Path) -> None:
    home = tmp_path / "home"
    # Weights so large that the last layer is far from the first.
    folder = save_model(tmp_path / "bert", "bert", num_hidden_layers=4, initializer_range=0.5)
    backbone = add(folder, home / "backbones", Build(layers=True))
    data, cache = tmp_path / "rows.jsonl", FeatureCache(tmp_path / "cache")
    texts = write_rows(data, backbone)
    trained = train_adapter(data, Columns(), backbone, cache, Recipe(mix=True), stage)
    adapter = read_adapter(trained.content)
    assert (adapter.manifest.feature, len(adapter.manifest.mix or ())) == ("layers", 5)
    result = evaluate_adapter(adapter, data, Columns(), home / "backbones", cache, stage)
    assert result.measured == adapter.manifest.measured
    with Server(home, feature_cache_bytes=10**7) as server:
        tenant = server.add_tenant("acme")
        with server.http(tenant.key) as http:
            upload(http, "acme", "words", trained.content)
            together = predict(http, "acme", "words", texts)["predictions"]
            alone = [predict(http, "acme", "words", [text])["predictions"][0] for text in texts]
            mode = {"mode": "own"}
            http.put("/v1/tenants/acme/feature-cache", json=mode).raise_for_status()
            cached = [predict(http, "acme", "words", texts)["predictions"] for _ in range(2)]
            hits = server.metrics()["headstock_feature_cache_hits_total"]
    assert hits >= len(set(texts))
    assert cached == [together, together]
    assert together == alone
    served = [(each["label"], each["score"]) for each in together]
    assert served == [(each["label"], each["score"]) for each in result.predictions]
