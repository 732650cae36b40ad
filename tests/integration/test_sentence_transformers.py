"""Folders as sentence-transformers saves them: a backbone gives what `encode` gives."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)
from torch import nn

from backbone import Backbone, BackboneError
from backbone.samples import SAMPLE_TEXTS
from service.embedding import to_unit_length
from tests.encoders import save_family
from training.backbones import export, sources
from training.backbones.add import add_from_folder
from training.backbones.export import load_encoder
from training.backbones.head import mean_head
from training.backbones.packing import Build
from training.finetune.model import TunedEncoder
from training.finetune.settings import LoraRecipe

WIDTH = 16
MODES = Pooling.POOLING_MODES
TEXTS = ("", "a", "refund my order", "where is the refund " * 20, *SAMPLE_TEXTS[:4])
PROMPTS = {"query": "where is ", "passage": ""}
NO_LORA = Build(lora=["none"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that comes before all these modules."""
    return save_family(tmp_path_factory.mktemp("model") / "bert", "bert")


def save(folder: Path, model: Path, *modules: nn.Module, **settings: Any) -> Path:
    parts = [Transformer(str(model)), *modules]
    SentenceTransformer(modules=parts, device="cpu", **settings).save_pretrained(str(folder))
    return folder


def add(folder: Path, root: Path, build: Build = NO_LORA) -> Backbone:
    found = sources.resolve(str(folder), None)
    return add_from_folder(found.path, found.source, root, "x", lambda _: None, False, build)[0]


def check(folder: Path, root: Path, build: Build = NO_LORA) -> Backbone:
    """Add the folder; each text alone is what `encode` gives for it."""
    backbone = add(folder, root, build)
    library = SentenceTransformer(str(folder), device="cpu")
    for text in TEXTS:
        ours = backbone.run([backbone.preprocess(text)], ["pooled"])["pooled"][0]
        theirs = library.encode(text, prompt=build.prompt)
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-4, text
    return backbone


def test_the_mean_of_a_model_alone_has_the_bits_of_the_library() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn((7, 9, WIDTH), generator=generator)
    mask = (torch.arange(9) < torch.tensor([0, 1, 2, 5, 7, 8, 9])[:, None]).long()
    features = {"token_embeddings": tokens, "attention_mask": mask}
    theirs = Pooling(WIDTH)(features)["sentence_embedding"]
    assert torch.equal(mean_head()(tokens, mask), theirs)


def test_a_model_alone_is_loaded_without_the_library(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its import takes a second in every process that opens a model."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.delitem(sys.modules, "training.backbones.pipeline", raising=False)
    encoder = runpy.run_path(export.__file__)["load_encoder"](model)
    assert encoder.library is None


@pytest.mark.parametrize("mode", [*MODES, list(MODES)], ids=str)
def test_all_modes_of_pooling(mode: Any, model: Path, tmp_path: Path) -> None:
    backbone = check(save(tmp_path / "st", model, Pooling(WIDTH, mode)), tmp_path / "b")
    assert backbone.manifest.width("pooled") == WIDTH * (1 if isinstance(mode, str) else len(MODES))


@pytest.mark.parametrize("mode", [*MODES, list(MODES)], ids=str)
def test_a_prompt_is_put_before_texts_and_left_out_of_pooling(
    mode: Any, model: Path, tmp_path: Path
) -> None:
    pooling = Pooling(WIDTH, mode, include_prompt=False)
    prompts = {"prompts": PROMPTS, "default_prompt_name": "query"}
    backbone = check(save(tmp_path / "st", model, pooling, **prompts), tmp_path / "b")
    assert backbone.manifest.preprocessing.prompt == "where is "


@pytest.mark.parametrize("prompt", ["", "the refund ", None])
def test_another_prompt_or_none(prompt: str | None, model: Path, tmp_path: Path) -> None:
    prompts = {"prompts": PROMPTS, "default_prompt_name": "query"}
    folder = save(tmp_path / "st", model, Pooling(WIDTH), Normalize(), **prompts)
    backbone = check(folder, tmp_path / "b", NO_LORA._replace(prompt=prompt))
    assert backbone.manifest.preprocessing.prompt == ("where is " if prompt is None else prompt)


def test_other_prompts_of_the_folder_are_kept_by_name(model: Path, tmp_path: Path) -> None:
    prompts = {"prompts": PROMPTS, "default_prompt_name": "query"}
    folder = save(tmp_path / "st", model, Pooling(WIDTH), Normalize(), **prompts)
    backbone = check(folder, tmp_path / "b")
    assert backbone.manifest.preprocessing.prompts == {"document": "", "passage": ""}
    folder = save(tmp_path / "named", model, Pooling(WIDTH), prompts=PROMPTS)
    backbone = check(folder, tmp_path / "c")
    assert backbone.manifest.preprocessing.prompt == ""
    assert backbone.manifest.preprocessing.prompts == {"query": "where is "}
    library = SentenceTransformer(str(folder), device="cpu")
    row = backbone.preprocess("the refund", prompt="where is ")
    ours = backbone.run([row], ["pooled"])["pooled"][0]
    assert np.abs(ours - library.encode("the refund", prompt_name="query")).max() < 1e-4


def test_a_prompt_that_is_left_out_of_the_pooling_is_the_only_one(
    model: Path, tmp_path: Path
) -> None:
    """The graph leaves out as many tokens as the default one has."""
    pooling = Pooling(WIDTH, include_prompt=False)
    prompts = {"prompts": PROMPTS, "default_prompt_name": "query"}
    backbone = check(save(tmp_path / "st", model, pooling, **prompts), tmp_path / "b")
    assert backbone.manifest.preprocessing.prompts == {}


@pytest.mark.parametrize("modules", [(), (Normalize(),), (Dense(WIDTH, 8), Normalize())], ids=len)
def test_a_folder_may_cut_its_vectors(
    modules: tuple[nn.Module, ...], model: Path, tmp_path: Path
) -> None:
    folder = save(tmp_path / "st", model, Pooling(WIDTH), *modules, truncate_dim=6)
    backbone = check(folder, tmp_path / "b", NO_LORA._replace(matryoshka=(2, 4, 6)))
    assert backbone.manifest.width("pooled") == 6
    assert backbone.manifest.matryoshka == (2, 4)


def test_a_cut_further_on_is_what_the_library_gives(model: Path, tmp_path: Path) -> None:
    """The numbers of `/v1/embeddings` with `dimensions`."""
    folder = save(tmp_path / "st", model, Pooling(WIDTH), Normalize())
    (folder / "README.md").write_text('{"loss": "x", "matryoshka_dims": [16, 8, 4]}')
    backbone = check(folder, tmp_path / "b")
    assert backbone.manifest.matryoshka == (4, 8)
    library = SentenceTransformer(str(folder), device="cpu")
    ours = [backbone.run([backbone.preprocess(text)], ["pooled"])["pooled"][0] for text in TEXTS]
    theirs = library.encode(list(TEXTS), truncate_dim=4, normalize_embeddings=True)
    assert np.abs(to_unit_length(ours, 4) - theirs).max() < 1e-4


@pytest.mark.parametrize(
    "activation", [nn.Tanh(), nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Sigmoid(), nn.Identity()], ids=str
)
def test_modules_after_the_pooling_are_part_of_the_graph(
    activation: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    modules = [
        Pooling(WIDTH, ["mean", "cls"]),
        Dense(2 * WIDTH, 8, bias=False, activation_function=activation, use_residual=True),
        LayerNorm(8),
        Dropout(0.2),
        Dense(8, 8, activation_function=activation, use_residual=True),
        Dense(8, 4),
        Normalize(),
    ]
    backbone = check(save(tmp_path / "st", model, *modules), tmp_path / "b")
    pooled = backbone.run([backbone.preprocess(text) for text in TEXTS], ["pooled"])["pooled"]
    assert pooled.shape == (len(TEXTS), 4)
    assert np.linalg.norm(pooled, axis=1) == pytest.approx(1, abs=1e-6)


def test_int8_keeps_what_follows_the_pooling_in_float32(model: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "st", model, Pooling(WIDTH), Dense(WIDTH, 8), Normalize())
    fp32, int8 = (add(folder, tmp_path / each, Build(each)) for each in ("fp32", "int8"))
    rows = [fp32.preprocess(text) for text in TEXTS]
    one, other = (each.run(rows, ["pooled"])["pooled"] for each in (fp32, int8))
    assert np.einsum("nd,nd->n", one, other).min() > 0.99
    assert b"step0/product/weight/int8" not in (tmp_path / "int8/x/model.onnx").read_bytes()


@pytest.mark.parametrize("older", [False, True])
def test_length_and_lower_case_are_the_folders(older: bool, model: Path, tmp_path: Path) -> None:
    """`older`: with the keys and class names of sentence-transformers before 5.4."""
    folder = save(tmp_path / "st", model, Pooling(WIDTH, "cls"), Normalize())
    settings = {"max_seq_length": 12, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    if older:
        flags = {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
        modules = json.loads((folder / "modules.json").read_text())
        for module in modules:
            module["type"] = "sentence_transformers.models." + module["type"].rpartition(".")[2]
        (folder / "modules.json").write_text(json.dumps(modules))
    backbone = check(folder, tmp_path / "b")
    assert backbone.manifest.preprocessing.max_length == 12
    upper, lower = (backbone.preprocess(text).ids.tolist() for text in ("REFUND", "refund"))
    assert upper == lower


def test_layers_go_the_same_way_where_nothing_is_trained_on_the_last(
    model: Path, tmp_path: Path
) -> None:
    folder = save(tmp_path / "st", model, Pooling(WIDTH, ["mean", "max"]), Normalize())
    backbone = check(folder, tmp_path / "b", NO_LORA._replace(layers=True))
    rows = [backbone.preprocess(text) for text in TEXTS]
    found = backbone.run(rows, ["layers", "pooled"])
    assert np.array_equal(found["layers"][:, -1], found["pooled"])
    assert np.linalg.norm(found["layers"], axis=2) == pytest.approx(1, abs=1e-6)
    dense = save(tmp_path / "dense", model, Pooling(WIDTH), Dense(WIDTH, WIDTH))
    with pytest.raises(BackboneError, match="Dense after the pooling were trained on the last"):
        add(dense, tmp_path / "c", NO_LORA._replace(layers=True))


def test_weights_of_modules_are_never_made_up(model: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "st", model, Pooling(WIDTH), Dense(WIDTH, 8))
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match="cannot load"):
        add(folder, tmp_path / "b")
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(BackboneError, match=r"pytorch_model\.bin.* a pickle can run code"):
        add(folder, tmp_path / "b")


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["Transformer", "Pooling", "CNN"], "has the modules Transformer, Pooling, CNN"),
        (["WordEmbeddings", "Pooling"], "has the modules WordEmbeddings, Pooling"),
        (["Transformer", "WeightedLayerPooling", "Pooling"], "WeightedLayerPooling"),
        (["Router", "Pooling"], "has the modules Router"),
        (["CLIPModel"], "has the modules CLIPModel"),
        (["Transformer"], "made of Transformer, then Pooling"),
        (["Transformer", "Pooling", "own.code.Head"], r"own code, own\.code\.Head, which is never"),
        ([], "has the modules of nothing"),
    ],
)
def test_other_modules_are_refused_by_name(
    kinds: list[str], message: str, model: Path, tmp_path: Path
) -> None:
    prefix = "sentence_transformers.models."
    modules = [{"type": kind if "." in kind else prefix + kind, "path": ""} for kind in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(BackboneError, match=message):
        sources.resolve(str(tmp_path), None)


def test_a_module_of_tokens_and_an_unknown_mode_are_refused(model: Path, tmp_path: Path) -> None:
    tokens = Normalize(module_input_name="token_embeddings")
    folder = save(tmp_path / "st", model, Pooling(WIDTH), tokens)
    with pytest.raises(BackboneError, match=r"Normalize reads or writes \['token_embeddings'\]"):
        add(folder, tmp_path / "b")
    config = {"embedding_dimension": WIDTH, "pooling_mode": "median"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="Invalid pooling mode: 'median'"):
        add(folder, tmp_path / "b")


def test_an_older_folder_has_its_model_in_a_folder_of_its_own(model: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "st", model, Pooling(WIDTH), Normalize())
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in folder.iterdir():
        if file.is_file() and file.name not in (
            "modules.json",
            "config_sentence_transformers.json",
        ):
            file.rename(inner / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    check(folder, tmp_path / "b")


def test_a_prompt_alone_may_leave_nothing_to_pool(model: Path, tmp_path: Path) -> None:
    """Without special tokens, of an empty text: zeros, as `encode` gives, and in int8, too."""
    pooling = Pooling(WIDTH, include_prompt=False)
    prompts = {"prompts": PROMPTS, "default_prompt_name": "query"}
    folder = save(tmp_path / "st", model, pooling, Normalize(), **prompts)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    check(folder, tmp_path / "fp32")
    int8 = add(folder, tmp_path / "int8", NO_LORA._replace(precision="int8"))
    assert not int8.run([int8.preprocess("")], ["pooled"])["pooled"].any()


def test_a_folder_without_a_padding_token_is_taken(model: Path, tmp_path: Path) -> None:
    """`encode` itself cannot be asked there: it wants to pad even one text."""
    folder = save(tmp_path / "st", model, Pooling(WIDTH))
    plain = add(folder, tmp_path / "plain")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    bare = add(folder, tmp_path / "bare")
    rows = [plain.preprocess(text) for text in TEXTS]
    one, other = (each.run(rows, ["pooled"])["pooled"] for each in (plain, bare))
    assert np.array_equal(one, other)


def test_fine_tuning_computes_what_serves(tmp_path: Path) -> None:
    """LoRA in torch, with a prompt and all modules, beside the graph with the same LoRA."""
    encoder = save_family(tmp_path / "t5", "t5")
    modules = [Pooling(WIDTH, include_prompt=False), Dense(WIDTH, 8), Normalize()]
    prompts = {"prompts": PROMPTS, "default_prompt_name": "query"}
    folder = save(tmp_path / "st", encoder, *modules, **prompts)
    backbone = check(folder, tmp_path / "b", Build())
    loaded = load_encoder(folder, backbone.manifest.preprocessing.prompt)
    tuned = TunedEncoder(loaded, backbone.manifest, LoraRecipe(rank=4, sites="all")).eval()
    random = torch.Generator().manual_seed(0)
    for product in tuned.products().values():
        product.b.data = 0.3 * torch.randn(product.b.shape, generator=random)
    placed = backbone.lora_pool(4).place(range(1, 5), tuned.factors())
    rows = [backbone.preprocess(text) for text in TEXTS]
    served = backbone.run(rows, ["pooled"], [placed] * len(rows))["pooled"]
    plain = backbone.run(rows, ["pooled"])["pooled"]
    with torch.inference_mode():
        ours = tuned.pooled(rows).numpy()
    assert np.abs(served - ours).max() < 1e-4
    assert np.abs(served - plain).max() > 0.01
