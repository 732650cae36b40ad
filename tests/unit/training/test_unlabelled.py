"""Guesses of unlabelled vectors teach where held-out rows gain, and no fold sees its own rows."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.adapter import read_adapter
from backbone import Backbone
from tests.tiny import make_tiny_backbone
from tests.unit.training.heads.problems import blobs, problem_of
from training.data.rows import Columns
from training.errors import InvalidData, InvalidRecipe
from training.features import FeatureCache, Progress
from training.fleet.manifest import Job
from training.fleet.train import _inputs
from training.heads import METHODS, Fold, MethodName, choose_head, fit_chosen
from training.recipe import Recipe, make_recipe
from training.spreading import neighbour_graph
from training.tasks import TASKS
from training.train import Trained, read_lesson, train_adapter
from training.unlabelled import (
    GUESS_WEIGHT,
    SelfTaught,
    _choose_teacher,
    choose_with_guesses,
)

TASK = TASKS["classification"]
N_CLASSES = 12


def stage(_: str) -> Progress:
    return lambda *_: None


def few_and_many(
    spread: float = 0.9, shuffled: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """A few vectors with classes, and many of the same kind (or of none) without."""
    x, y = blobs(N_CLASSES, 60, spread=spread, d=8)
    first = np.concatenate([np.flatnonzero(y == each)[:5] for each in range(N_CLASSES)])
    rest = np.setdiff1d(np.arange(len(y)), first)
    more = x[rest]
    if shuffled:
        generator = np.random.default_rng(1)
        more = np.stack([generator.permutation(column) for column in more.T], axis=1)
    return x[first], y[first], more, y[rest]


def self_taught(method: MethodName = "logistic", **changes: Any) -> tuple[SelfTaught, float, float]:
    """What came of it, and the accuracy on the many without and with them."""
    x, y, more, truth = few_and_many(**changes)
    problem, folds = problem_of(x, y, N_CLASSES, 0)
    chosen = choose_head(METHODS[method], TASK, problem, folds)
    found = choose_with_guesses(method, TASK, chosen, more, folds)

    def accuracy(of: SelfTaught | None) -> float:
        fit = fit_chosen(METHODS[method], TASK, of.to_fit(more) if of else chosen)
        weight, bias = fit.head.tensors["head.weight"], fit.head.tensors["head.bias"]
        return float(((more @ weight.T + bias).argmax(axis=1) == truth).mean())

    if fit_chosen(METHODS[method], TASK, chosen).head.head != "linear":
        return found, 0.0, 0.0
    return found, accuracy(None), accuracy(found)


def test_texts_of_the_same_kind_help() -> None:
    found, without, with_them = self_taught()
    assert found.teacher is not None
    assert found.tried["unlabelled"] == "yes"
    assert found.tried["out_of_fold_loss_unlabelled"] < found.tried["out_of_fold_loss_labelled"]  # type: ignore[operator]  # numbers
    assert with_them > without + 0.02
    assert found.findings == ()


def test_what_a_better_head_makes_needless_is_left_out() -> None:
    found, _, _ = self_taught()
    again = found.left_out()
    assert again.teacher is None
    assert again.tried["unlabelled"] == "no"
    assert "prototypes" in again.findings[0].text  # they were a gain, only not for this head
    assert again.to_fit(few_and_many()[2]).problem is found.without.problem
    nothing = choose_with_guesses("logistic", TASK, found.without, None, [])
    assert nothing.left_out().tried == {}
    assert nothing.left_out().findings == ()


def test_probabilities_take_memory_of_a_fold_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs(100, 30, d=8)
    problem, folds = problem_of(x[:1000], y[:1000], 100, 0)
    chosen = choose_head(METHODS["centroid"], TASK, problem, folds)
    graph = neighbour_graph(x)  # which takes more, at so few labels
    monkeypatch.setattr("training.unlabelled.neighbour_graph", lambda _: graph)
    tracemalloc.start()
    _choose_teacher("centroid", TASK, chosen, x[1000:], folds)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * len(x) * 100 * 8  # all folds and ways at once took 25 times that


def test_a_single_held_out_row_proves_nothing() -> None:
    x, y, more, _ = few_and_many()
    problem, _ = problem_of(x, y, N_CLASSES, 0)
    fold = Fold(np.arange(1, len(x)), np.array([0]))
    chosen = choose_head(METHODS["logistic"], TASK, problem, [fold])
    assert choose_with_guesses("logistic", TASK, chosen, more, [fold]).teacher is None


def test_a_vector_that_is_no_number_is_refused() -> None:
    x, y, more, _ = few_and_many()
    problem, folds = problem_of(x, y, N_CLASSES, 0)
    chosen = choose_head(METHODS["logistic"], TASK, problem, folds)
    more[3] = np.nan
    with pytest.raises(InvalidData):
        choose_with_guesses("logistic", TASK, chosen, more, folds)


def test_texts_that_tell_nothing_are_left_out() -> None:
    found, _, _ = self_taught(shuffled=True, spread=1.4)
    assert found.teacher is None
    assert found.chosen is found.without
    assert found.tried["unlabelled"] == "no"
    assert "no clear gain" in found.findings[0].text


@pytest.mark.usefixtures("short_grid_of_nets")
@pytest.mark.parametrize("method", [name for name, each in METHODS.items() if each.WEIGHTED])
def test_every_head_that_weighs_rows_can_be_taught(
    method: MethodName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.unlabelled.MOST_JUDGED", 40)
    if TASK.KIND not in METHODS[method].KINDS:
        return
    found, _, _ = self_taught(method)
    assert found.tried["unlabelled"] in ("yes", "no")


def test_the_class_of_a_held_out_row_changes_nothing_that_its_fold_is_taught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y, more, _ = few_and_many()
    problem, folds = problem_of(x, y, N_CLASSES, 0)
    without = choose_head(METHODS["logistic"], TASK, problem, folds)
    changed = y.copy()
    changed[folds[0].held] = (changed[folds[0].held] + 1) % N_CLASSES
    taught = []

    def watch(method: object, task: object, problem: Any, folds: Any, progress: object) -> Any:
        taught.append(problem.y[folds[0].train])
        return choose_head(METHODS["logistic"], TASK, problem, folds)

    monkeypatch.setattr("training.unlabelled.choose_head", watch)
    # How guesses are made is one choice for all folds, as a head's settings are.
    monkeypatch.setattr("training.unlabelled.SHARPNESSES", (1.0,))
    for classes in (y, changed):
        of = replace(without, problem=replace(problem, y=classes))
        choose_with_guesses("logistic", TASK, of, more, folds)
    assert np.array_equal(taught[0], taught[1])


def test_of_many_some_judge_and_all_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.unlabelled.MOST_JUDGED", 300)
    _, _, more, _ = few_and_many()
    found, without, with_them = self_taught()
    assert len(found.to_fit(more).problem.x) > len(more)
    assert with_them > without + 0.02


def test_guesses_weigh_a_part_of_a_row() -> None:
    x, _, more, truth = few_and_many()
    found, _, _ = self_taught()
    problem = found.to_fit(more).problem
    assert np.array_equal(problem.x, np.concatenate([x, more]))
    assert (problem.y[len(x) :] == truth).mean() > 0.7
    assert problem.weights[: len(x)] == pytest.approx(1)
    assert problem.weights[len(x) :] == pytest.approx(GUESS_WEIGHT)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"task": "multilabel"}, "not with multilabel"),
        ({"task": "regression"}, "not with regression"),
        ({"head": "knn"}, "which stores labelled rows"),
        ({"mix": True}, "leave out mix"),
        ({"augment": "auto"}, "use augment=none"),
    ],
)
def test_recipes_that_they_say_nothing_to(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    path = tmp_path / "rows.jsonl"
    label: Any = {"multilabel": ["a"], "regression": 1.5}.get(str(given.get("task")), "a")
    rows = [{"text": f"text {n}", "label": label if n % 2 else _other(label)} for n in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InvalidRecipe, match=said):
        read_lesson(path, Columns(), make_recipe(given), path)


def _other(label: Any) -> Any:
    return ["b"] if isinstance(label, list) else 2.5 if isinstance(label, float) else "b"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return make_tiny_backbone(tmp_path_factory.mktemp("home") / "backbones")


def write_rows(folder: Path) -> tuple[Path, Path]:
    """Few labelled rows of vowels and digits, and many texts of the same two kinds."""
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list(("aeiou", "12345")[n % 2]), size=6)) for n in range(260)]
    rows = [f"{text},{('letters', 'digits')[n % 2]}" for n, text in enumerate(texts[:60])]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows]))
    (folder / "more.csv").write_text("\n".join(["text", *texts[60:], texts[0]]))
    return folder / "rows.csv", folder / "more.csv"


def train(folder: Path, backbone: Backbone, unlabelled: Path | None) -> Trained:
    cache = FeatureCache(folder / "features.sqlite")
    data = folder / "rows.csv"
    return train_adapter(data, Columns(), backbone, cache, Recipe(), stage, unlabelled=unlabelled)


def test_a_training_with_unlabelled_texts(tmp_path: Path, backbone: Backbone) -> None:
    _, more = write_rows(tmp_path)
    trained = train(tmp_path, backbone, more)
    assert trained.content == train(tmp_path, backbone, more).content
    manifest = read_adapter(trained.content).manifest
    assert manifest.training is not None
    settings = manifest.training.settings
    assert settings["unlabelled"] in ("yes", "no")
    assert 190 < float(settings["unlabelled_texts"]) <= 200
    assert manifest.training.rows < 60  # labelled ones alone
    plain = train(tmp_path, backbone, None)
    assert plain.manifest.training is not None
    assert "unlabelled" not in plain.manifest.training.settings


def test_other_unlabelled_texts_are_other_inputs_of_a_fleets_job(tmp_path: Path) -> None:
    data, more = write_rows(tmp_path)
    job = Job("a", "b", data, "tiny", tmp_path / "out", Columns(), Recipe(), more)
    with_them = _inputs(job, read_lesson(data, Columns(), Recipe(), more), "digest")
    without = _inputs(job, read_lesson(data, Columns(), Recipe()), "digest")
    assert with_them != without


def test_a_row_of_another_split_teaches_nothing(tmp_path: Path) -> None:
    """It may be measured on another day."""
    rows = [f"text {n},{'ab'[n % 2]},{('train', 'test', 'valid')[n % 3]}" for n in range(60)]
    data, more = tmp_path / "rows.csv", tmp_path / "more.csv"
    data.write_text("\n".join(["text,label,split", *rows]))
    more.write_text("\n".join(["text", *(row.split(",")[0] for row in rows), "another"]))
    found = read_lesson(data, Columns(), Recipe(), more).teaching.unlabelled
    assert found.texts == ("another",)
    assert "40" in found.findings[0].text
