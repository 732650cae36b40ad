"""Mixes of layers: learned by an exact gradient, taken where they are clearly better."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.adapter import read_adapter
from adapters.scoring import mix_layers
from backbone import Backbone
from tests.tiny import make_layered_backbone, make_tiny_backbone
from tests.unit.training.heads.problems import blobs, problem_of, problem_of_kind
from training import mix
from training.data.rows import Columns
from training.errors import InvalidRecipe, TrainingError
from training.evaluate import evaluate_adapter
from training.features import FeatureCache, Progress
from training.heads.folds import make_folds
from training.mix import _Loss, learn_mix
from training.recipe import Recipe, make_recipe
from training.tasks.base import Kind
from training.train import Trained, train_adapter

KINDS: tuple[Kind, ...] = ("class", "labels", "values")


def stage(_: str) -> Progress:
    return lambda *_: None


def noise(rows: int, seed: int, d: int = 16) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, d)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_that_tells_gets_the_weight(kind: Kind) -> None:
    problem = problem_of_kind(kind)
    n_rows = len(problem.x)
    layers = np.stack([noise(n_rows, 1), 30 * problem.x + 5, noise(n_rows, 2)], axis=1)
    every = np.arange(n_rows)
    folds = make_folds(["a"] * n_rows, every, every, np.ones(n_rows, dtype=np.bool_), 0)
    found = learn_mix(layers, problem, folds)
    sizes = np.sqrt(((layers - layers.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))
    shares = found * sizes / sizes[-1]  # of the softmax
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert shares[1] > 0.8
    assert np.array_equal(found, learn_mix(layers, problem, folds))


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_loss(kind: Kind) -> None:
    problem = problem_of_kind(kind)
    n_rows = len(problem.x)
    x = np.stack([noise(n_rows, 1), problem.x, problem.x**2], axis=1).astype(np.float64)
    every = np.arange(n_rows)
    folds = make_folds(["a"] * n_rows, every, every, np.ones(n_rows, dtype=np.bool_), 0)
    loss = _Loss.of(x - x.mean(axis=0), problem, folds)
    point = np.array([0.3, -0.2, 0.5, 0.7, 1.1])
    _, gradient = loss(point)
    steps = 1e-5 * np.eye(len(point))
    numeric = [(loss(point + step)[0] - loss(point - step)[0]) / 2e-5 for step in steps]
    assert gradient == pytest.approx(numeric, rel=1e-5, abs=1e-8)
    assert np.abs(gradient[:3]).max() > 1e-4


def test_a_layer_that_is_the_same_for_all_rows_has_no_part() -> None:
    x, y = blobs(3, 20)
    problem, folds = problem_of(x, y, 3, 0)
    constant = np.full_like(x, 7)
    assert learn_mix(np.stack([constant, x, x], axis=1), problem, folds)[0] == 0
    last = learn_mix(np.stack([x, x, constant], axis=1), problem, folds)
    assert last[2] == 0
    assert last[:2].sum() == pytest.approx(1, abs=1e-5)
    nothing = learn_mix(np.stack([constant, constant], axis=1), problem, folds)
    assert nothing.tolist() == [0, 1]


def test_of_many_rows_some_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs(3, 60, spread=3.0)
    problem, folds = problem_of(x, y, 3, 0)
    layers = np.stack([noise(len(x), 1), x], axis=1)
    everything = learn_mix(layers, problem, folds)
    monkeypatch.setattr(mix, "ENOUGH_ROWS", 90)
    some = learn_mix(layers, problem, folds)
    assert some[1] > 3 * some[0]
    assert not np.array_equal(some, everything)
    assert np.array_equal(some, learn_mix(layers, problem, folds))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def backbone(home: Path) -> Backbone:
    return make_layered_backbone(home / "backbones")


def write_rows(path: Path, backbone: Backbone, layer: int, task: str = "classification") -> Path:
    """Random texts, labelled by what a layer linearly tells."""
    random = np.random.default_rng(4)
    texts = ["".join(random.choice(list("abcdefgh"), size=8)) for _ in range(300)]
    rows = [backbone.preprocess(text) for text in texts]
    vectors = backbone.run(rows, ["layers"])["layers"][:, layer]
    values = vectors @ random.standard_normal(vectors.shape[1])
    ranks = np.argsort(np.argsort(values))
    labels: list[Any] = [["low", "middle", "high"][rank // 100] for rank in ranks]
    if task == "multilabel":
        labels = [[label] if label != "middle" else [] for label in labels]
    if task == "regression":
        labels = values.tolist()
    lines = [
        json.dumps({"text": text, "label": label, "split": "train" if n < 200 else "test"})
        for n, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    path.write_text("\n".join(lines))
    return path


def train(data: Path, backbone: Backbone, cache: FeatureCache, **settings: Any) -> Trained:
    recipe = Recipe(**{"mix": True, **settings})
    return train_adapter(data, Columns(), backbone, cache, recipe, stage)


@pytest.mark.parametrize(
    ("task", "heads"),
    [
        ("classification", ("logistic", "knn")),
        ("multilabel", ("logistic",)),
        ("regression", ("ridge",)),
    ],
)
def test_a_mix_that_helps_is_taken_measured_and_evaluated_alike(
    task: str, heads: tuple[str, ...], home: Path, backbone: Backbone, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", backbone, layer=0, task=task)
    cache = FeatureCache(tmp_path / "cache")
    for head in heads:
        trained = train(data, backbone, cache, task=task, head=head)
        assert not [each for each in trained.manifest.findings if "mix" in each.code]
        manifest = trained.manifest
        assert manifest.training is not None
        assert (manifest.feature, len(manifest.mix or ())) == ("layers", 3)
        settings = manifest.training.settings
        assert settings["mix"] == "yes"
        assert settings["out_of_fold_loss"] == settings["out_of_fold_loss_mix"]
        assert float(settings["out_of_fold_loss_mix"]) < float(settings["out_of_fold_loss_pooled"])
        adapter = read_adapter(trained.content)
        evaluated = evaluate_adapter(adapter, data, Columns(), home / "backbones", cache, stage)
        assert evaluated.measured == manifest.measured
        if task == "classification":
            text = json.loads(data.read_text().splitlines()[200])["text"]
            layers = backbone.run([backbone.preprocess(text)], ["layers"])["layers"][0]
            best = evaluated.predictions[0]
            scores = adapter.scorer.score_vector(
                mix_layers(np.array(manifest.mix, dtype=np.float32), layers)
            )
            assert best["score"] == float(scores.max())


def test_a_mix_that_does_not_help_leaves_the_adapter_as_without_it(
    backbone: Backbone, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", backbone, layer=-1)
    cache = FeatureCache(tmp_path / "cache")
    tried, plain = (train(data, backbone, cache, mix=each) for each in (True, False))
    (found,) = tried.manifest.findings
    assert (found.code, found.severity) == ("mix-left-out", "info")
    assert "did not clearly lower the loss out of fold" in found.text
    assert plain.manifest.findings == ()
    assert (tried.manifest.feature, tried.manifest.mix) == ("pooled", None)
    first, second = (read_adapter(each.content) for each in (tried, plain))
    assert first.manifest.measured == second.manifest.measured
    head, other = first.scorer.head, second.scorer.head
    vector = np.ones(first.width, dtype=np.float32)
    assert np.array_equal(head.raw(vector), other.raw(vector))
    assert tried.manifest.training is not None
    assert tried.manifest.training.settings["mix"] == "no"


def test_the_same_training_gives_the_same_file(backbone: Backbone, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", backbone, layer=0)
    first, second = (train(data, backbone, FeatureCache(tmp_path / each)) for each in "ab")
    assert first.content == second.content


def test_a_backbone_without_layers_is_told_how_to_get_them(tmp_path: Path) -> None:
    plain = make_tiny_backbone(tmp_path / "backbones")
    data = write_rows_of(tmp_path / "rows.csv")
    with pytest.raises(TrainingError, match=r"tiny has no feature 'layers'.*add it .* --layers"):
        train(data, plain, FeatureCache(tmp_path / "cache"))


def write_rows_of(path: Path) -> Path:
    path.write_text(
        "text,label\n" + "".join(f"{'ab'[n % 2]}{n},{'xy'[n % 2]}\n" for n in range(20))
    )
    return path


def test_where_there_is_nothing_to_mix_a_recipe_is_refused() -> None:
    with pytest.raises(InvalidRecipe, match="mix: a tagger takes each token"):
        make_recipe({"task": "tagging"}, ["mix=true"])
    with pytest.raises(InvalidRecipe, match="mix: lora trains for the last layer"):
        make_recipe({"mix": True, "lora": {}})
    assert make_recipe({}, ["mix=true"]).mix
    assert not make_recipe({}).mix
