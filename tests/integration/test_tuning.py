"""Searches on real backbones: judged by training rows alone, resumed, and trained by."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters.adapter import read_adapter
from backbone import Backbone, load_backbone
from tests.encoders import save_model
from tests.tiny import make_tiny_backbone
from training.backbones import sources
from training.backbones.add import add_from_folder
from training.data.rows import Columns
from training.experiments.trial import CROSS_VALIDATION, HELD_OUT
from training.experiments.tune import Ambition, Tuned, tune_recipe
from training.features import FeatureCache, Progress
from training.recipe import Recipe, make_recipe
from training.train import Places, train_adapter
from training.workshop import Stage

LORA = {"rank": 4, "rate": 0.02, "epochs": 20, "patience": 20, "batch": 8, "sites": "all"}


def quiet(_: str) -> Progress:
    return lambda *_: None


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "bert", "bert")


@pytest.fixture(scope="module")
def small(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    root = tmp_path_factory.mktemp("home") / "backbones"
    found = sources.resolve(str(weights), None)
    add_from_folder(found.path, found.source, root, "small", lambda _: None)
    return load_backbone(root / "small")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return make_tiny_backbone(tmp_path_factory.mktemp("home") / "backbones")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More only wait for each other on so small a model."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    path.write_text("\n".join(["text,label,split", *(",".join(row) for row in rows)]))
    return path


@pytest.fixture(scope="module")
def two_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes by the order of two words, which the mean of frozen random features shows dimly."""
    random = np.random.default_rng(1)
    rows = []
    for number in range(120):
        words = random.choice(("where", "is", "my", "the", "a"), size=6).tolist()
        early, late = sorted(random.choice(6, size=2, replace=False).tolist())
        pair = ("order", "refund") if number % 2 else ("refund", "order")
        words[early], words[late] = pair
        rows.append((" ".join(words), f"{pair[0]} first", "test" if number >= 100 else "train"))
    return write(tmp_path_factory.mktemp("data") / "rows.csv", rows)


def letters(path: Path, test_label: int = 0) -> Path:
    """Classes that letters tell of, a quarter wrong; of test rows the label may be the other."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(48):
        text = "".join(random.choice(list("aeiou" if number % 2 else "aeixy"), size=6))
        split = "test" if number >= 32 else "train"
        shown = number + (number % 8 < 2) + (test_label if split == "test" else 0)
        rows.append((f"{text}{number}", "some vowels" if shown % 2 else "all letters", split))
    return write(path, rows)


def tune(
    data: Path,
    backbone: Backbone,
    base: Recipe,
    places: Places,
    trials: int | None = None,
    stage: Stage = quiet,
) -> Tuned:
    """With a clock that stands still: records have the same bytes, and the budget never ends."""
    cache = FeatureCache(data.parent / "features.sqlite")
    ambition = Ambition(max_trials=trials)
    work = (data, Columns(), backbone, cache)
    return tune_recipe(*work, base, stage, places, ambition, clock=lambda: 0.0)


@pytest.mark.usefixtures("short_grid_of_nets")
def test_heads_are_searched_where_lora_cannot_be(tiny: Backbone, tmp_path: Path) -> None:
    data = letters(tmp_path / "rows.csv")
    tuned = tune(data, tiny, Recipe(), Places(tmp_path / "run"))
    (found,) = tuned.origin.findings
    assert "LoRA was not searched: backbone tiny comes from an ONNX" in found.text
    assert {(trial.recipe.method, trial.recipe.names) for trial in tuned.trials} == {
        (head, names)
        for head in ("logistic", "ridge", "centroid", "knn", "mlp")
        for names in ("no", "yes")
    }
    assert all(trial.state == "done" for trial in tuned.trials)
    best = min(tuned.trials, key=lambda trial: trial.loss or 0.0)
    assert tuned.chosen is not None
    chosen = tuned.trials[tuned.chosen]
    assert chosen.recipe == tuned.recipe
    assert best.loss is not None
    assert best.standard_error is not None
    assert chosen.loss is not None
    assert chosen.loss <= best.loss + best.standard_error
    lines = (tmp_path / "run" / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines[1:]] == list(range(10))


def test_the_adapter_is_that_of_the_chosen_settings(tiny: Backbone, tmp_path: Path) -> None:
    data = letters(tmp_path / "rows.csv")
    tuned = tune(data, tiny, Recipe(seed=3), Places(tmp_path / "run"), trials=6)
    work = (data, Columns(), tiny, FeatureCache(tmp_path / "features.sqlite"))
    plain = train_adapter(*work, tuned.recipe, quiet)
    trained = train_adapter(*work, tuned.recipe, quiet, origin=tuned.origin)
    assert tuned.recipe.seed == 3
    told = trained.manifest.training
    assert told is not None
    assert plain.manifest.training is not None
    assert told.settings == {
        **plain.manifest.training.settings,
        "tuned_trials": 6.0,
        "tuned_budget_s": 600.0,
    }
    (found,) = trained.manifest.findings
    assert found.code == "lora-not-searched"
    changes = {"training": plain.manifest.training, "findings": ()}
    same = trained.manifest.model_copy(update=changes)
    assert same == plain.manifest


@pytest.mark.usefixtures("short_grid_of_nets")
def test_the_search_never_looks_at_test_rows(tiny: Backbone, tmp_path: Path) -> None:
    """Every test row has the other label, and no trial is changed by it."""
    data, other = letters(tmp_path / "rows.csv"), letters(tmp_path / "other.csv", test_label=1)
    assert data.read_text() != other.read_text()
    first, second = (tune(path, tiny, Recipe(), Places(), trials=8) for path in (data, other))
    assert first.trials == second.trials
    assert first.recipe == second.recipe


def test_lora_is_taken_where_held_out_rows_speak_for_it(
    two_words: Path, small: Backbone, weights: Path, tmp_path: Path
) -> None:
    base = make_recipe({"head": "logistic", "names": "no", "lora": LORA})
    places = Places(tmp_path / "run", weights=weights)
    tuned = tune(two_words, small, base, places, trials=5)
    assert [trial.judged_on for trial in tuned.trials] == [CROSS_VALIDATION] + 4 * [HELD_OUT]
    assert [trial.recipe.lora is None for trial in tuned.trials] == [True] * 2 + [False] * 3
    alone, *lora = tuned.trials[1:]
    assert alone.loss is not None
    assert all(trial.recipe.lora and trial.recipe.lora.rate == 0.02 for trial in lora)
    assert tuned.chosen is not None
    chosen = tuned.trials[tuned.chosen]
    assert chosen.loss is not None
    assert chosen.loss < 0.8 * alone.loss
    assert tuned.recipe.lora is not None
    cache = FeatureCache(tmp_path / "features.sqlite")
    after = replace(places, resume=True)
    trained = train_adapter(two_words, Columns(), small, cache, tuned.recipe, quiet, after)
    adapter = read_adapter(trained.content)
    assert adapter.lora is not None
    assert (tmp_path / "run" / "trials.jsonl").exists()


SEARCHED = make_recipe({"head": "centroid", "names": "no", "lora": {**LORA, "epochs": 8}})


@pytest.fixture(scope="module")
def undisturbed(
    two_words: Path, small: Backbone, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tuned, Path]:
    """A search of five trials, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return tune(two_words, small, SEARCHED, Places(folder, weights=weights), trials=5), folder


@pytest.mark.parametrize("moment", [2, 100, 200])
def test_a_search_interrupted_in_a_lora_trial_ends_as_one_that_was_not(
    moment: int,
    undisturbed: tuple[Tuned, Path],
    two_words: Path,
    small: Backbone,
    weights: Path,
    tmp_path: Path,
) -> None:
    whole, folder = undisturbed
    told = 0

    def interrupting(_: str) -> Progress:
        def report(*_: int) -> None:
            nonlocal told
            told += 1
            if told == moment:
                raise KeyboardInterrupt

        return report

    places = Places(tmp_path / "cut", weights=weights)
    with pytest.raises(KeyboardInterrupt):
        tune(two_words, small, SEARCHED, places, 5, interrupting)
    resumed = tune(two_words, small, SEARCHED, replace(places, resume=True), 5)
    assert resumed == whole
    files = [each / "trials.jsonl" for each in (folder, tmp_path / "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()
