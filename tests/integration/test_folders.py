"""Folders as people save them: taken for what they are, or refused in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from backbone import Backbone, BackboneError
from backbone.samples import SAMPLE_TEXTS
from tests.encoders import save_family, save_model
from training.backbones import sources
from training.backbones.add import add_from_folder
from training.backbones.packing import Added, Build

Weights = dict[str, torch.Tensor]
WEIGHTS = "model.safetensors"
NO_LORA = Build(lora=["none"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_family(tmp_path / "bert", "bert")


def added(folder: Path, build: Build = NO_LORA) -> Added:
    found = sources.resolve(str(folder), None)
    root = folder.parent / "backbones"
    return add_from_folder(found.path, found.source, root, "x", lambda _: None, True, build)


def add(folder: Path, build: Build = NO_LORA) -> Backbone:
    return added(folder, build).backbone


def change_weights(folder: Path, change: Callable[[Weights], Weights]) -> None:
    changed = change(load_file(folder / WEIGHTS))
    save_file(
        {name: each.contiguous() for name, each in changed.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )


def change_settings(folder: Path, name: str, **settings: object) -> None:
    file = folder / name
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **settings}))


def under(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + name: each for name, each in weights.items()}


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: each for name, each in weights.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (under("_orig_mod."), r"under the prefix '_orig_mod\.', as _orig_mod\.embeddings"),
        (under("module."), r"under the prefix 'module\.', as module\.embeddings"),
        (
            under("student."),
            r"lacks weights of its model: embeddings.*and \d+ more; it has student",
        ),
        (
            without("layer.0.output.dense.weight"),
            r"lacks weights of its model: encoder\.layer\.0\.output\.dense\.weight; they would be",
        ),
        (
            lambda weights: {**weights, "extra.weight": torch.ones(2)},
            r"weights that its model does not have: extra\.weight; without",
        ),
        (
            lambda weights: {**weights, "encoder.layer.1.output.dense.bias": torch.ones(16)},
            r"does not have: encoder\.layer\.1\.output\.dense\.bias",
        ),
        (
            lambda weights: {**weights, "embeddings.word_embeddings.weight": torch.ones(30, 16)},
            r"word_embeddings\.weight has shape \[30, 16\], and config\.json wants \[40, 16\]",
        ),
        (
            lambda weights: {**weights, "embeddings.LayerNorm.bias": torch.full((16,), torch.nan)},
            r"embeddings\.LayerNorm\.bias has numbers that are not finite",
        ),
    ],
    ids=["compiled", "parallel", "wrapped", "missing", "extra", "layer", "shape", "nan"],
)
def test_weights_that_are_not_the_models_are_refused_by_name(
    change: Callable[[Weights], Weights], message: str, folder: Path
) -> None:
    change_weights(folder, change)
    with pytest.raises(BackboneError, match=message):
        add(folder)


def test_a_pooler_that_no_feature_uses_may_be_missing(folder: Path) -> None:
    whole = add(folder)
    change_weights(folder, without("pooler"))
    row = whole.preprocess("where is my order")
    ours, theirs = (each.run([row], ["tokens"])["tokens"] for each in (add(folder), whole))
    assert np.array_equal(ours, theirs)


def test_a_head_of_the_same_family_is_left_out_with_a_word(folder: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(folder)
    encoder = transformers.AutoModel.from_pretrained(folder)
    model = transformers.BertForSequenceClassification(config)
    model.bert.load_state_dict(encoder.state_dict())
    plain = add(folder)
    model.save_pretrained(folder)
    found = added(folder)
    assert "encoder does not have: classifier.bias, classifier.weight." in found.notes[0]
    row = plain.preprocess("where is my order")
    one, other = (each.run([row], ["tokens"])["tokens"] for each in (plain, found.backbone))
    assert np.array_equal(one, other)


def test_shards_are_one_model_with_one_digest(folder: Path) -> None:
    whole = add(folder)
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="5KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    sharded = add(folder)
    row = whole.preprocess("where is my order")
    one, other = (each.run([row], ["tokens"])["tokens"] for each in (whole, sharded))
    assert np.array_equal(one, other)
    digest = sources.resolve(str(folder), None).source.weights_sha256
    change = load_file(shards[0])
    save_file({name: each + 1 for name, each in change.items()}, shards[0], {"format": "pt"})
    assert sources.resolve(str(folder), None).source.weights_sha256 != digest
    shards[0].unlink()
    with pytest.raises(BackboneError, match=rf"names {shards[0].name}, which is not in the folder"):
        add(folder)


def test_half_precision_is_computed_in_float32(folder: Path) -> None:
    change_weights(folder, lambda weights: {name: each.half() for name, each in weights.items()})
    backbone = add(folder)
    row = backbone.preprocess("where is my order")
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(row.ids)[None]).last_hidden_state[0].numpy()
    assert np.abs(backbone.run([row], ["tokens"])["tokens"][0] - expected).max() < 1e-4


def test_lengths_are_those_of_the_model_or_what_is_asked_for(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "bert", "bert", max_position_embeddings=2048)
    change_settings(folder, "tokenizer_config.json", model_max_length=int(1e30))
    backbone = add(folder)
    assert backbone.manifest.preprocessing.max_length == 2048
    row = backbone.preprocess("order " * 3000)
    assert backbone.run([row], ["tokens"])["tokens"].shape == (1, 2048, 16)
    assert add(folder, Build(lora=["none"], max_length=9)).preprocess("my " * 50).length == 9
    with pytest.raises(BackboneError, match="--max-length 2049: the model has positions for 2048"):
        add(folder, Build(max_length=2049))


def test_positions_that_begin_after_the_paddings_hold_fewer_tokens(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "roberta", "roberta")  # 42 positions, of which two are not used
    change_settings(folder, "tokenizer_config.json", model_max_length=512)
    backbone = add(folder)
    row = backbone.preprocess("order " * 100)
    assert backbone.run([row], ["tokens"])["tokens"].shape == (1, 40, 16)


def test_the_encoder_alone_of_an_encoder_decoder_is_enough(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "t5", "t5")
    whole = add(folder)
    transformers.T5EncoderModel.from_pretrained(folder).save_pretrained(folder)
    alone = add(folder)
    row = whole.preprocess("where is my order")
    one, other = (each.run([row], ["tokens"])["tokens"] for each in (whole, alone))
    assert np.array_equal(one, other)


def test_texts_are_cut_on_the_tokenizers_side(folder: Path) -> None:
    change_settings(folder, "tokenizer_config.json", truncation_side="left", padding_side="left")
    backbone = add(folder)
    row = backbone.preprocess("refund " + "my " * 60 + "order")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = tokenizer("refund " + "my " * 60 + "order", truncation=True, max_length=40)
    assert row.ids.tolist() == expected["input_ids"]
    rows = [backbone.preprocess(text) for text in SAMPLE_TEXTS]
    together = backbone.run(rows, ["pooled"])["pooled"]
    alone = [backbone.run([row], ["pooled"])["pooled"][0] for row in rows]
    assert np.array_equal(together, alone)


def _use_peft(folder: Path) -> None:
    (folder / "config.json").unlink()
    change_settings(folder, "adapter_config.json", base_model_name_or_path="bert-base-cased")


def _use_own_code(folder: Path) -> None:
    own = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    change_settings(folder, "config.json", auto_map=own, model_type="own")


def _use_other_weights(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / name)

    return change


def _use_more_tokens(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"new{number}" for number in range(40)])
    tokenizer.save_pretrained(folder)


def _use_no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_use_peft, "is an adapter of PEFT for 'bert-base-cased', not a model"),
        (_use_own_code, "needs code of its own .auto_map in config.json., which is never run"),
        (_use_other_weights("pytorch_model.bin"), r"\(pytorch_model\.bin\) are not loaded"),
        (_use_other_weights("tf_model.h5"), r"\(tf_model\.h5\) are not loaded"),
        (_use_other_weights("gone"), "and no weights of another kind either"),
        (_use_more_tokens, "tokens up to number 50, and the model has vectors for 40"),
        (_use_no_tokenizer, r"has no tokenizer\.json"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"x" * 99), "cannot load .*: Error while"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not a JSON file"),
        (lambda folder: (folder / "config.json").write_text("[]"), "holds a list, not a dict"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (
            lambda folder: change_settings(
                folder, "config.json", quantization_config={"quant_method": "gptq"}
            ),
            "holds weights quantised by gptq",
        ),
        (
            lambda folder: change_settings(folder, "config.json", model_type="nothing"),
            "has model type `nothing` but Transformers does not recognize",
        ),
    ],
)
def test_what_is_no_whole_model_is_refused_in_one_sentence(
    change: Callable[[Path], None], message: str, folder: Path
) -> None:
    change(folder)
    with pytest.raises(BackboneError, match=message) as caught:
        add(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["clip", "vit", "whisper"])
def test_a_model_of_no_text_alone_is_refused_in_one_sentence(kind: str, tmp_path: Path) -> None:
    small = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 0}
    parts = {"text_config": {**small, "num_hidden_layers": 1}, "vision_config": small}
    folder = save_model(tmp_path / kind, kind, **(parts if kind == "clip" else small))
    message = f"is a model of the kind '{kind}', which does not turn a text into one vector"
    with pytest.raises(BackboneError, match=message) as caught:
        add(folder)
    assert "\n" not in str(caught.value)
