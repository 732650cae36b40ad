"""LoRA trained in torch for the graph that serves: the same numbers, stops, interruptions."""

import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from adapters.adapter import read_adapter
from adapters.lora import make_lora
from backbone import Backbone
from tests.encoders import save_model
from tests.integration.server import Server, predict, upload
from training.backbones import sources
from training.backbones.add import add_from_folder
from training.backbones.export import load_encoder
from training.curves import EpochRecord, StepRecord, read_curves, read_phases
from training.data.rows import Columns
from training.errors import TrainingError
from training.evaluate import evaluate_adapter
from training.features import POOLED, FeatureCache, Progress, encode_texts
from training.finetune.model import LoraProduct, TunedEncoder
from training.finetune.prototypes import judge_prototypes
from training.finetune.settings import LoraRecipe
from training.heads import Fit
from training.recipe import Recipe, make_recipe
from training.train import Places, Trained, train_adapter

SETTINGS = {
    "rank": 4,
    "rate": 0.02,
    "epochs": 6,
    "batch": 8,
    "dropout": 0.1,
    "model_dropout": False,  # rows of six words learn little beside it
}
TEXTS = ("where is my order", "a refund", "order order order refund the", "is")


def stage(_: str) -> Progress:
    return lambda *_: None


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "bert", "bert")


@pytest.fixture(scope="module")
def home(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    found = sources.resolve(str(weights), None)
    add_from_folder(found.path, found.source, home / "backbones", "small", lambda _: None)
    return home


@pytest.fixture(scope="module")
def backbone(home: Path) -> Backbone:
    from backbone import load_backbone

    return load_backbone(home / "backbones" / "small")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More only wait for each other on so small a model."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes by the order of two words, which the mean of frozen random features shows dimly."""
    random = np.random.default_rng(1)
    fillers = ("where", "is", "my", "the", "a")
    lines = ["text,label,split"]
    for number in range(120):
        words = random.choice(fillers, size=6).tolist()
        early, late = sorted(random.choice(6, size=2, replace=False).tolist())
        pair = ("order", "refund") if number % 2 else ("refund", "order")
        words[early], words[late] = pair
        split = "test" if number >= 80 else "train"
        lines.append(f"{' '.join(words)},{pair[0]} first,{split}")
    path = tmp_path_factory.mktemp("data") / "rows.csv"
    path.write_text("\n".join(lines))
    return path


def recipe(**settings: object) -> Recipe:
    return make_recipe({"lora": {**SETTINGS, **settings}, "names": "no"})


def train(
    data: Path,
    backbone: Backbone,
    weights: Path,
    folder: Path,
    recipe: Recipe,
    resume: bool = False,
    stage: Callable[[str], Progress] = stage,
) -> Trained:
    cache = FeatureCache(data.parent / "features.sqlite")
    places = Places(folder, resume, weights)
    return train_adapter(data, Columns(), backbone, cache, recipe, stage, places)


def test_torch_with_lora_is_the_serving_graph_with_lora(
    backbone: Backbone, weights: Path, tmp_path: Path
) -> None:
    model = TunedEncoder(load_encoder(weights), backbone.manifest, LoraRecipe(rank=4)).eval()
    random = torch.Generator().manual_seed(0)
    for product in model.products().values():
        product.b.data = 0.3 * torch.randn(product.b.shape, generator=random)
    lora = make_lora(model.factors())
    cache = FeatureCache(tmp_path / "features.sqlite")
    served = encode_texts(backbone, TEXTS, POOLED, cache, lambda *_: None, lora)
    plain = encode_texts(backbone, TEXTS, POOLED, cache, lambda *_: None)
    with torch.inference_mode():
        ours = model.pooled([backbone.preprocess(text) for text in TEXTS]).numpy()
    assert np.abs(np.stack(plain.features) - ours).max() > 0.1
    np.testing.assert_allclose(np.stack(served.features), ours, atol=1e-4)


def test_only_lora_of_the_chosen_layers_learns(backbone: Backbone, weights: Path) -> None:
    settings = LoraRecipe(sites="query,value", layers=1)
    model = TunedEncoder(load_encoder(weights), backbone.manifest, settings)
    assert [site.split(".")[2] for site in model.sites] == ["1", "1"]
    assert {site.rpartition(".")[2] for site in model.sites} == {"query", "value"}
    learning = [name for name, each in model.named_parameters() if each.requires_grad]
    assert all(name.endswith((".a", ".b")) for name in learning)
    assert len(learning) == 4
    assert all(isinstance(each, LoraProduct) for each in model.products().values())


@pytest.mark.parametrize("is_on", [True, False])
def test_the_models_own_dropout_is_on_in_training_alone(
    backbone: Backbone, weights: Path, is_on: bool
) -> None:
    settings = LoraRecipe(dropout=0, model_dropout=is_on)
    model = TunedEncoder(load_encoder(weights), backbone.manifest, settings)
    rows = [backbone.preprocess(text) for text in TEXTS]
    with torch.inference_mode():
        taught = [model.train().pooled(rows) for _ in range(2)]
        served = [model.eval().pooled(rows) for _ in range(2)]
    assert torch.equal(*taught) is not is_on
    assert torch.equal(*served)


def test_prototypes_that_lora_was_trained_beside_may_be_the_head(
    data: Path,
    backbone: Backbone,
    home: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def judge_kindly(*given: Any) -> Fit:
        found = judge_prototypes(*given)
        return replace(found, losses=0.01 * found.losses)

    monkeypatch.setattr("training.finetune.fitting.judge_prototypes", judge_kindly)
    trained = train(data, backbone, weights, tmp_path / "run", recipe())
    assert trained.manifest.head == "centroid"
    assert trained.manifest.training is not None
    assert trained.manifest.training.settings["method"] == "prototypes"
    cache = FeatureCache(tmp_path / "other.sqlite")
    adapter = read_adapter(trained.content)
    again = evaluate_adapter(adapter, data, Columns(), home / "backbones", cache, stage)
    assert again.measured == trained.manifest.measured
    asked = recipe().model_copy(update={"head": "logistic"})  # by name: then it is that one
    assert train(data, backbone, weights, tmp_path / "again", asked).manifest.head == "linear"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sites": "q_proj"}, r"no site of the backbone ends with 'q_proj'; .* query, value; or"),
        ({"layers": 3}, "3 of the last layers, and there are 2"),
    ],
)
def test_sites_that_are_not_there(
    backbone: Backbone, weights: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        TunedEncoder(load_encoder(weights), backbone.manifest, LoraRecipe.model_validate(settings))


def test_lora_learns_what_a_frozen_backbone_does_not_tell(
    data: Path, backbone: Backbone, home: Path, weights: Path, tmp_path: Path
) -> None:
    trained = train(data, backbone, weights, tmp_path / "run", recipe(epochs=20, patience=20))
    adapter = read_adapter(trained.content)
    assert adapter.lora is not None
    assert adapter.lora.rank == 4
    assert trained.manifest.training is not None
    settings = trained.manifest.training.settings
    assert float(settings["held_out_loss"]) < 0.8 * float(settings["held_out_loss_frozen"])
    cache = FeatureCache(tmp_path / "other.sqlite")
    again = evaluate_adapter(adapter, data, Columns(), home / "backbones", cache, stage)
    assert again.measured == trained.manifest.measured
    probe, final = read_phases(tmp_path / "run")
    assert [record["epoch"] for record in probe.epochs] == list(range(1, len(probe.epochs) + 1))
    assert {frozenset(each) for each in probe.epochs} == {frozenset(get_type_hints(EpochRecord))}
    assert {frozenset(each) for each in probe.steps} == {frozenset(get_type_hints(StepRecord))}
    assert min(each["train_loss"] for each in probe.epochs) < probe.epochs[0]["train_loss"]
    assert max(each["train_metric"] for each in probe.epochs) > probe.epochs[0]["train_metric"]
    assert probe.best is not None
    assert len(final.epochs) == probe.best["epoch"]
    rates = [record["rate"] for record in probe.steps]
    assert rates[:2] == [pytest.approx(0.02 / 16), pytest.approx(0.04 / 16)]  # warms up
    assert max(rates) == rates[15] == 0.02
    assert {record["validation_loss"] for record in final.epochs} == {None}
    assert not list((tmp_path / "run").glob("*.checkpoint"))


def test_a_served_lora_adapter_gives_what_evaluate_gives(
    data: Path, backbone: Backbone, home: Path, weights: Path, tmp_path: Path
) -> None:
    content = train(data, backbone, weights, tmp_path / "run", recipe(epochs=20)).content
    adapter = read_adapter(content)
    assert adapter.lora is not None
    cache = FeatureCache(tmp_path / "other.sqlite")
    expected = evaluate_adapter(adapter, data, Columns(), home / "backbones", cache, stage)
    lines = data.read_text().splitlines()[1:]
    texts = [line.split(",")[0] for line in lines if line.endswith(",test")]
    with Server(home) as server:
        tenant = server.add_tenant("acme")
        with server.http(tenant.key) as http:
            upload(http, "acme", "order", content)
            for size in (1, 7, len(texts)):
                answers = [
                    {"label": each["label"], "score": each["score"]}
                    for start in range(0, len(texts), size)
                    for each in predict(http, "acme", "order", texts[start : start + size])[
                        "predictions"
                    ]
                ]
                assert json.dumps(answers) == json.dumps(expected.predictions)


def test_lora_that_does_not_help_is_left_out(
    backbone: Backbone, weights: Path, tmp_path: Path
) -> None:
    """The classes are two words: frozen features tell all, and chance cannot be better."""
    lines = ["text,label,split"]
    for number in range(60):
        word = ("order", "refund")[number % 2]
        lines.append(f"{word} {'my ' * (number % 7)},{word},{'test' if number > 40 else 'train'}")
    data = tmp_path / "easy.csv"
    data.write_text("\n".join(lines))
    trained = train(data, backbone, weights, tmp_path / "run", recipe(rate=1e-7, head_rate=1e-7))
    assert read_adapter(trained.content).lora is None
    assert "lora-left-out" in [each.code for each in trained.manifest.findings]


@pytest.fixture(scope="module")
def undisturbed(
    data: Path, backbone: Backbone, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[bool], tuple[str, Path]]:
    """The digest and the folder of a training by whether the model's own dropout is on."""

    @functools.cache
    def make(model_dropout: bool) -> tuple[str, Path]:
        folder = tmp_path_factory.mktemp("whole")
        asked = recipe(model_dropout=model_dropout)
        return train(data, backbone, weights, folder, asked).digest, folder

    return make


@pytest.mark.parametrize(
    ("moment", "model_dropout"), [(3, False), (15, True), (47, False), (60, True), (95, False)]
)
def test_an_interrupted_training_ends_with_the_same_file(
    moment: int,
    model_dropout: bool,
    undisturbed: Callable[[bool], tuple[str, Path]],
    data: Path,
    backbone: Backbone,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = recipe(model_dropout=model_dropout)
    monkeypatch.setattr("training.finetune.loop._SAVE_EVERY_S", 0.0)
    digest, whole = undisturbed(model_dropout)
    steps = 0

    def interrupting(_: str) -> Progress:
        def report(done: int, total: int) -> None:
            nonlocal steps
            steps += 1
            if steps == moment:
                raise KeyboardInterrupt

        return report

    with pytest.raises(KeyboardInterrupt):
        train(data, backbone, weights, tmp_path / "cut", asked, stage=interrupting)
    resumed = train(data, backbone, weights, tmp_path / "cut", asked, resume=True)
    assert resumed.digest == digest
    for phase in ("probe", "final"):
        records = [
            [{**each, "seconds": None} for each in read_curves(run / f"{phase}.jsonl")]
            for run in (whole, tmp_path / "cut")
        ]
        assert records[0] == records[1]
        assert len(records[0]) > 10


def test_the_checkpoint_of_another_training_is_refused(
    data: Path, backbone: Backbone, weights: Path, tmp_path: Path
) -> None:
    def interrupting(name: str) -> Progress:
        def report(done: int, total: int) -> None:
            if name == "LoRA" and done > 1:
                raise KeyboardInterrupt

        return report

    with pytest.raises(KeyboardInterrupt):
        train(data, backbone, weights, tmp_path / "run", recipe(), stage=interrupting)
    with pytest.raises(TrainingError, match="checkpoint of another training"):
        train(data, backbone, weights, tmp_path / "run", recipe(rank=2), resume=True)
    train(data, backbone, weights, tmp_path / "run", recipe(rank=2))  # begins anew


def test_a_loss_that_is_not_finite_keeps_the_last_good_weights(
    data: Path,
    backbone: Backbone,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from training.finetune.objectives import Prototypes

    good, calls, bad = Prototypes.loss, 0, 0

    def bad_once(self: Prototypes, *args: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return good(self, *args) * (float("nan") if calls == bad else 1)

    monkeypatch.setattr(Prototypes, "loss", bad_once)
    bad = 25  # of eight steps an epoch
    trained = train(data, backbone, weights, tmp_path / "run", recipe(epochs=20, patience=20))
    assert "the loss became nan at step 25 (epoch 4)" in trained.manifest.findings[0].text
    assert "the best before, are kept" in trained.manifest.findings[0].text
    probe, *_ = read_phases(tmp_path / "run")
    assert (len(probe.epochs), len(probe.steps)) == (3, 24)
    calls, bad = 0, 5
    with pytest.raises(TrainingError, match=r"nan at step 5 \(epoch 1\).*no epoch was finished"):
        train(data, backbone, weights, tmp_path / "run", recipe())


def test_memory_that_runs_out_names_the_setting(
    data: Path,
    backbone: Backbone,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def out_of_memory(*_: object) -> torch.Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(TunedEncoder, "forward", out_of_memory)
    with pytest.raises(TrainingError, match=r"lower lora\.batch \(it is 8\)"):
        train(data, backbone, weights, tmp_path / "run", recipe())


def test_other_weights_than_the_backbones_are_refused(
    data: Path, backbone: Backbone, tmp_path: Path
) -> None:
    other = save_model(tmp_path / "other", "bert", num_hidden_layers=1)
    with pytest.raises(TrainingError, match="is not what backbone small was made of"):
        train(data, backbone, other, tmp_path / "run", recipe())
    cache = FeatureCache(tmp_path / "features.sqlite")
    with pytest.raises(TrainingError, match="say where it is with --weights-folder"):
        train_adapter(data, Columns(), backbone, cache, recipe(), stage)


def test_a_killed_training_is_resumed_to_the_same_file(
    undisturbed: Callable[[bool], tuple[str, Path]],
    data: Path,
    home: Path,
    weights: Path,
    tmp_path: Path,
) -> None:
    """kill -9 of the command itself; interruptions at other moments are above."""

    settings = [f"lora.{key}={value}" for key, value in SETTINGS.items()]
    command = [
        *(sys.executable, "-m", "headstock", "train", str(data), "--backbone", "small"),
        *("--output", str(tmp_path / "cut.safetensors"), "--weights-folder", str(weights)),
        *("--lora", "--names", "no"),
        *(part for each in settings for part in ("--set", each)),
    ]
    environment = {**os.environ, "HEADSTOCK_HOME": str(home), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    curves = tmp_path / "cut.run" / "probe.jsonl"
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if curves.exists() and len(curves.read_text().splitlines()) >= 20:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL
    subprocess.run([*command, "--resume"], env=environment, check=True, capture_output=True)
    cut = (tmp_path / "cut.safetensors").read_bytes()
    digest, _ = undisturbed(False)  # of another process, too
    assert hashlib.sha256(cut).hexdigest() == digest
