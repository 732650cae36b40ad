"""Each family of text encoders, as transformers computes it: float32, int8, and with LoRA."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from backbone import Backbone
from backbone.samples import SAMPLE_TEXTS
from backbone.stability import random_factors
from tests.encoders import FAMILIES, save_family
from training.backbones import sources
from training.backbones.add import add_from_folder
from training.backbones.export import load_encoder, merged_lora, reference_features
from training.backbones.packing import Build

RANK = 5
# Sites of the last LoRA graph: a layer's, or those of two layers; of DeBERTa without query and key,
# which it applies to positions, too; of ALBERT the layer that is passed twice, and the embedding's.
SITES = {
    "modernbert": 8,
    "albert": 7,
    "electra": 7,
    "deberta-v2": 4,
    "gpt2": 4,
    "llama": 7,
    "qwen3": 7,
    "gemma3_text": 14,
    "t5": 12,
}


def add(folder: Path, root: Path, build: Build) -> Backbone:
    found = sources.resolve(str(folder), None)
    return add_from_folder(found.path, found.source, root, "x", lambda _: None, False, build)[0]


def tokens_of(folder: Path, text: str) -> NDArray[np.float32]:
    """What transformers makes of one text alone, by its own tokenizer and model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    if hasattr(model, "decoder") and hasattr(model, "encoder"):
        model = model.get_encoder()
    given = tokenizer(text, truncation=True, max_length=40, return_tensors="pt")
    with torch.inference_mode():
        output = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    tokens: NDArray[np.float32] = output.last_hidden_state[0].numpy()
    return tokens


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


class Family(NamedTuple):
    """A folder, and the backbones that were made of it."""

    kind: str
    folder: Path
    fp32: Backbone
    int8: Backbone


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    root = tmp_path_factory.mktemp(request.param)
    folder = save_family(root / "model", request.param)
    return Family(
        request.param,
        folder,
        fp32=add(folder, root / "fp32", Build("fp32")),
        int8=add(folder, root / "int8", Build("int8")),
    )


def test_a_family_is_as_in_transformers(family: Family) -> None:
    fp32 = family.fp32
    assert fp32.manifest.preprocessing.max_length == 40
    for text in (SAMPLE_TEXTS[1], SAMPLE_TEXTS[-1]):
        row, expected = fp32.preprocess(text), tokens_of(family.folder, text)
        for backbone in (fp32, family.int8):
            tokens = backbone.run([row], ["tokens"])["tokens"][0]
            assert tokens.shape == expected.shape
            assert cosine(tokens, expected) > 0.99
        found = fp32.run([row], ["tokens", "pooled"])
        assert np.abs(found["tokens"][0] - expected).max() < 1e-4
        assert np.abs(found["pooled"][0] - expected.mean(axis=0)).max() < 1e-4


def test_lora_in_a_family_is_as_in_its_weights(family: Family) -> None:
    fp32, encoder = family.fp32, load_encoder(family.folder)
    sites = fp32.manifest.sites
    assert fp32.manifest.lora[-1].sites == family.int8.manifest.lora[-1].sites == tuple(sites)
    assert len(sites) == SITES.get(family.kind, 6)
    factors = random_factors(sites, RANK, seed=3)
    row = fp32.preprocess(SAMPLE_TEXTS[1])
    with merged_lora(encoder, factors):
        expected = reference_features(encoder, row.ids.tolist())["tokens"]
    for backbone in (fp32, family.int8):
        lora = backbone.lora_pool(RANK).place(range(1, RANK + 1), factors)
        plain = backbone.run([row], ["tokens"])["tokens"][0]
        tuned = backbone.run([row], ["tokens"], [lora])["tokens"][0]
        assert np.abs(tuned - plain).max() > 0.01
        assert cosine(tuned, expected) > 0.98
        if backbone is fp32:
            assert np.abs(tuned - expected).max() < 1e-4
