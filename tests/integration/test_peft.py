"""LoRA in PEFT's format behind the graph that serves: the numbers of torch with merged weights."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from adapters.adapter import Adapter, read_adapter, read_adapter_file
from backbone import Backbone
from tests.encoders import save_model
from tests.peft_folders import Matrix, Modules, make_modules, write_peft
from training.backbones import sources
from training.backbones.add import add_from_folder
from training.data.rows import Columns
from training.errors import InvalidPeft, InvalidRecipe
from training.features import POOLED, FeatureCache, Progress, encode_texts
from training.peft.convert import import_adapter
from training.peft.lora import read_peft
from training.recipe import make_recipe
from training.train import train_adapter

TEXTS = ("where is my order", "a refund", "order order order refund the", "is")
TAGS = ("O", "B-thing", "I-thing")
INNER = 32
WIDTH = 16
LAYER = "encoder.layer.1"
# Modules of BERT to rank, width in, width out.
SHAPES = {
    "encoder.layer.0.attention.self.query": (4, WIDTH, WIDTH),
    f"{LAYER}.attention.self.query": (4, WIDTH, WIDTH),
    f"{LAYER}.attention.self.value": (4, WIDTH, WIDTH),
    f"{LAYER}.attention.output.dense": (4, WIDTH, WIDTH),
    f"{LAYER}.intermediate.dense": (4, WIDTH, INNER),
    f"{LAYER}.output.dense": (4, INNER, WIDTH),
}


def stage(_: str) -> Progress:
    return lambda *_: None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def add(kind: str, home: Path, pooling: str | None = None) -> Backbone:
    """A small model, which stays in `home`/sources, and the backbone that is made of it."""
    folder = save_model(home / "sources" / kind, kind)
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({pooling: True}))
    found = sources.resolve(str(folder), None)
    return add_from_folder(
        found.path, found.source, home / "backbones", kind, lambda _: None
    ).backbone


@pytest.fixture(scope="module")
def bert(home: Path) -> Backbone:
    return add("bert", home)


@pytest.fixture(scope="module")
def distilbert(home: Path) -> Backbone:
    return add("distilbert", home, "pooling_mode_cls_token")


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features.sqlite")


def merge(model: torch.nn.Module, modules: Modules, scales: Mapping[str, float]) -> None:
    """W + scale B A, as Hu et al. define it, in torch's layout [out, in]."""
    for name, (a, b) in modules.items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        weight.data += torch.from_numpy(scales.get(name, scales[""]) * (b @ a))


def run(
    model: Any, backbone: Backbone, output: str, texts: Sequence[str] = TEXTS
) -> list[NDArray[np.float32]]:
    """What torch gives for each text alone."""
    found = []
    for text in texts:
        ids = torch.tensor([backbone.preprocess(text).ids.tolist()])
        with torch.inference_mode():
            values = getattr(model(input_ids=ids, attention_mask=torch.ones_like(ids)), output)
        found.append(values[0].numpy())
    return found


@pytest.mark.parametrize(
    ("config", "ranks", "scales"),
    [
        ({}, {}, {"": 2.0}),
        ({"use_rslora": True}, {}, {"": 4.0}),
        (
            {"rank_pattern": {r".*\.1\..*query": 2, "value": 7}, "alpha_pattern": {"query": 3}},
            {f"{LAYER}.attention.self.query": 2, f"{LAYER}.attention.self.value": 7},
            {
                "": 2.0,
                "encoder.layer.0.attention.self.query": 3 / 4,
                f"{LAYER}.attention.self.query": 3 / 2,
                f"{LAYER}.attention.self.value": 8 / 7,
            },
        ),
        (
            {
                "use_rslora": True,
                "rank_pattern": {"value": 9},
                "alpha_pattern": {"^bert.*value": 6},
            },
            {f"{LAYER}.attention.self.value": 9},
            {"": 4.0, f"{LAYER}.attention.self.value": 6 / 3},
        ),
    ],
)
def test_features_are_those_of_merged_weights(
    bert: Backbone,
    home: Path,
    tmp_path: Path,
    cache: FeatureCache,
    config: dict[str, Any],
    ranks: Mapping[str, int],
    scales: Mapping[str, float],
) -> None:
    modules = make_modules(
        {
            name: (ranks.get(name, 4), inputs, outputs)
            for name, (_, inputs, outputs) in SHAPES.items()
        }
    )
    named = {f"bert.{name}": pair for name, pair in modules.items()}
    base = home / "sources" / "bert"
    folder = write_peft(tmp_path / "peft", named, base_model_name_or_path=str(base), **config)
    found = read_peft(folder, bert.manifest)
    assert found.findings == ()  # the base model's folder is there, and has the backbone's weights
    assert found.lora.rank == max(4, *ranks.values(), 4)
    served = encode_texts(bert, TEXTS, POOLED, cache, lambda *_: None, found.lora)
    model = transformers.AutoModel.from_pretrained(base).eval()
    plain = np.stack(run(model, bert, "last_hidden_state", TEXTS[:1])).mean(axis=1)
    merge(model, modules, scales)
    ours = np.stack([each.mean(axis=0) for each in run(model, bert, "last_hidden_state")])
    assert np.abs(plain - ours[:1]).max() > 0.1
    np.testing.assert_allclose(np.stack(served.features), ours, atol=1e-4)


def test_lora_behind_the_features_is_left_out(
    bert: Backbone, tmp_path: Path, cache: FeatureCache
) -> None:
    """PEFT's "all-linear" means the pooler too, of which no feature is made."""
    one = make_modules({LAYER + ".output.dense": (4, INNER, WIDTH)})
    pooler = make_modules({"pooler.dense": (4, WIDTH, WIDTH)})
    with_pooler = read_peft(write_peft(tmp_path / "a", {**one, **pooler}), bert.manifest)
    without = read_peft(write_peft(tmp_path / "b", one), bert.manifest)
    assert with_pooler.lora.digest == without.lora.digest
    assert "LoRA behind the features is left out: 'pooler.dense'" in with_pooler.findings[-1].text
    layer = {"classifier.weight": np.zeros((3, WIDTH), np.float32)}
    folder = write_peft(tmp_path / "c", {**one, **pooler}, layer, task_type="TOKEN_CLS")
    with pytest.raises(InvalidPeft, match=r"LoRA inside its head, at 'pooler\.dense'"):
        import_adapter(folder, bert, cache, stage, TAGS)


def head(kind: type, base: Path, **settings: Any) -> tuple[Any, dict[str, Matrix]]:
    """A model with a random head, and the head's tensors."""
    torch.manual_seed(1)
    model = kind.from_pretrained(base, num_labels=3, **settings).eval()  # type: ignore[attr-defined]
    tensors = {}
    for name, parameter in model.named_parameters():
        if "classifier" in name:
            torch.nn.init.normal_(parameter)
            tensors[name] = parameter.detach().numpy().copy()
    return model, tensors


def softmax(raw: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(raw.astype(np.float64) - raw.max(axis=-1, keepdims=True))
    found: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return found


def scores(adapter: Adapter, backbone: Backbone, cache: FeatureCache) -> list[Matrix]:
    encoded = encode_texts(
        backbone, TEXTS, adapter.manifest.feature, cache, lambda *_: None, adapter.lora
    )
    return [adapter.score(feature) for feature in encoded.features]


@pytest.mark.parametrize("wrapped", ["", ".modules_to_save.default"])
def test_a_tagger_comes_with_its_head(
    bert: Backbone, home: Path, tmp_path: Path, cache: FeatureCache, wrapped: str
) -> None:
    modules = {f"bert.{name}": pair for name, pair in make_modules(SHAPES).items()}
    model, tensors = head(transformers.AutoModelForTokenClassification, home / "sources" / "bert")
    merge(model, modules, {"": 2.0})
    saved = {name.replace("classifier", f"classifier{wrapped}"): t for name, t in tensors.items()}
    folder = write_peft(tmp_path / "peft", modules, saved, task_type="TOKEN_CLS")
    (folder / "config.json").write_text(
        json.dumps({"id2label": {str(number): tag for number, tag in enumerate(TAGS)}})
    )
    trained = import_adapter(folder, bert, cache, stage)
    adapter = read_adapter(trained.content)
    manifest = adapter.manifest
    assert (manifest.task, manifest.head, manifest.labels) == ("tagging", "linear", TAGS)
    assert (manifest.measured, manifest.training, manifest.temperature) == (None, None, 1.0)
    assert "the LoRA names no base model" in trained.manifest.findings[0].text
    assert import_adapter(folder, bert, cache, stage).content == trained.content
    for ours, logits in zip(scores(adapter, bert, cache), run(model, bert, "logits"), strict=True):
        np.testing.assert_allclose(ours, softmax(logits[1:-1]), atol=1e-4)  # no [CLS], [SEP]


def test_distilberts_classifier_is_a_perceptron_on_the_first_token(
    distilbert: Backbone, home: Path, tmp_path: Path, cache: FeatureCache
) -> None:
    inner = distilbert.manifest.sites["transformer.layer.1.ffn.lin1"].outputs
    layers = "distilbert.transformer.layer"
    modules = make_modules(
        {
            f"{layers}.0.attention.q_lin": (4, WIDTH, WIDTH),
            f"{layers}.1.ffn.lin1": (4, WIDTH, inner),
        }
    )
    model, tensors = head(
        transformers.AutoModelForSequenceClassification, home / "sources" / "distilbert"
    )
    merge(model, modules, {"": 2.0})
    folder = write_peft(tmp_path / "peft", modules, tensors, task_type="SEQ_CLS")
    adapter = read_adapter(import_adapter(folder, distilbert, cache, stage, "abc").content)
    assert (adapter.manifest.task, adapter.manifest.head) == ("classification", "mlp")
    logits = run(model, distilbert, "logits")
    np.testing.assert_allclose(
        np.stack(scores(adapter, distilbert, cache)), softmax(np.stack(logits)), atol=1e-4
    )
    content = import_adapter(folder, distilbert, cache, stage, "abc", "multilabel").content
    several = read_adapter(content)
    assert several.manifest.thresholds == (0.5, 0.5, 0.5)
    np.testing.assert_allclose(
        np.stack(scores(several, distilbert, cache)), 1 / (1 + np.exp(-np.stack(logits))), atol=1e-4
    )
    with pytest.raises(InvalidPeft, match=r"--task tagging: .* has the task_type SEQ_CLS"):
        import_adapter(folder, distilbert, cache, stage, "abc", "tagging")


def test_a_head_of_ones_own_on_the_pooled_vector(
    bert: Backbone, tmp_path: Path, cache: FeatureCache
) -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((1, WIDTH)).astype(np.float32)
    modules = make_modules(SHAPES)
    folder = write_peft(tmp_path / "peft", modules, {"score.weight": weight})
    adapter = read_adapter(
        import_adapter(folder, bert, cache, stage, ["price"], "regression").content
    )
    assert adapter.manifest.calibration is None
    encoded = encode_texts(bert, TEXTS, POOLED, cache, lambda *_: None, adapter.lora)
    np.testing.assert_allclose(
        np.stack(scores(adapter, bert, cache)), np.stack(encoded.features) @ weight.T, atol=1e-5
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = ["text,label,split"]
    for number in range(60):
        word = ("order", "refund")[number % 2]
        text = " ".join(("where", "is", "my", "the", "a")[number % 5 : number % 7 + 1])
        lines.append(f"{text} {word},{word},{'test' if number >= 40 else 'train'}")
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    return path


def test_a_head_is_fitted_behind_a_lora_that_stays_as_it_is(
    bert: Backbone, home: Path, data: Path, tmp_path: Path
) -> None:
    folder = write_peft(
        tmp_path / "peft", make_modules(SHAPES), base_model_name_or_path="some/model"
    )
    given = read_peft(folder, bert.manifest)

    def command(*more: str) -> subprocess.CompletedProcess[str]:
        train = ("train", str(data), "--backbone", "bert", "--output", str(tmp_path / "a.st"))
        return subprocess.run(
            [sys.executable, "-m", "headstock", *train, "--peft", str(folder), *more],
            env={"HEADSTOCK_HOME": str(home), "PATH": "", "COLUMNS": "200"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = command("--json")
    assert done.returncode == 0, done.stderr
    assert "the LoRA names 'some/model', and backbone bert comes from folder" in done.stderr
    adapter = read_adapter_file(tmp_path / "a.st")
    assert adapter.lora is not None
    assert adapter.lora.digest == given.lora.digest
    manifest = adapter.manifest
    assert manifest.measured is not None
    assert manifest.training is not None
    settings = manifest.training.settings
    assert settings["lora"] == "peft"
    assert settings["lora_base"] == "some/model"
    assert settings["lora_sha256"] == given.folder.digest
    assert json.loads(done.stdout)["manifest"]["measured"]["adapter"]["accuracy"]["value"] > 0.8
    evaluate = [sys.executable, "-m", "headstock", "evaluate", str(tmp_path / "a.st"), str(data)]
    again = subprocess.run(
        [*evaluate, "--json"],
        env={"HEADSTOCK_HOME": str(home), "PATH": ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(again.stdout)["adapter"] == manifest.measured.model_dump()["adapter"]
    refused = command("--lora")
    assert refused.returncode == 2
    assert "give one of them" in refused.stderr


def test_lora_that_is_given_is_not_trained(
    bert: Backbone, data: Path, tmp_path: Path, cache: FeatureCache
) -> None:
    given = read_peft(write_peft(tmp_path / "peft", make_modules(SHAPES)), bert.manifest)
    recipe = make_recipe({}, ["lora.rank=2"])
    with pytest.raises(InvalidRecipe, match="--lora trains LoRA and --peft takes one as it is"):
        train_adapter(data, Columns(), bert, cache, recipe, stage, given=given)
