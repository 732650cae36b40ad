"""A tagger on its whole way: trained, measured, uploaded, asked over HTTP."""

import json
from pathlib import Path

import numpy as np

from adapters.adapter import read_adapter
from backbone import find_backbone, load_backbone
from tests.integration.server import predict, running, upload
from training.data.rows import Columns
from training.evaluate import evaluate_adapter
from training.features import FeatureCache, Progress
from training.recipe import Recipe
from training.train import train_adapter


def stage(_: str) -> Progress:
    return lambda *_: None


def write_rows(path: Path) -> list[str]:
    """Digits are codes and capitals names, most of them; the texts to ask for."""
    random = np.random.default_rng(1)
    texts, lines = [], []
    for number in range(80):
        words, entities, text = [], [], ""
        for _ in range(4):
            letters, label = [("abcdefg", ""), ("12345", "code"), ("VWXYZ", "name")][
                random.integers(3)
            ]
            word = "".join(random.choice(list(letters), size=random.integers(1, 4)))
            if label and random.random() < 0.9:
                entities.append({"start": len(text), "end": len(text) + len(word), "label": label})
            words.append(word)
            text += word + "  "[: random.integers(1, 3)]
        split = "test" if number >= 40 else "train"
        lines.append(json.dumps({"text": text, "label": entities, "split": split}))
        texts += [text] if split == "test" else []
    path.write_text("\n".join(lines))
    return texts


def test_a_trained_tagger_answers_with_the_entities_that_were_measured(tmp_path: Path) -> None:
    data, cache = tmp_path / "rows.jsonl", FeatureCache(tmp_path / "cache")
    texts = write_rows(data)
    with running(tmp_path) as (server, _):
        root = server.home / "backbones"
        backbone = load_backbone(find_backbone(root, "tiny"))
        recipe = Recipe(task="tagging")
        content = train_adapter(data, Columns(), backbone, cache, recipe, stage).content
        adapter = read_adapter(content)
        result = evaluate_adapter(adapter, data, Columns(), root, cache, stage)
        assert len({len(each["entities"]) for each in result.predictions}) > 2
        tenant = server.add_tenant("acme")
        with server.http(tenant.key) as http:
            upload(http, "acme", "entities", content)
            together = predict(http, "acme", "entities", texts)["predictions"]
            alone = [predict(http, "acme", "entities", [text])["predictions"][0] for text in texts]
    assert together == alone == result.predictions
    assert json.dumps(together[0]) == json.dumps(result.predictions[0])
