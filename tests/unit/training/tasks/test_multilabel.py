import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import f1_score, log_loss

from adapters.adapter import read_adapter
from adapters.answers import MultiLabelled
from adapters.manifest import Calibration, Manifest
from backbone import Backbone
from tests.tiny import make_tiny_backbone
from training.data.rows import Columns, read_rows
from training.data.splits import split_rows
from training.errors import InvalidData
from training.evaluate import evaluate_adapter
from training.examples import of_rows
from training.features import FeatureCache, Progress
from training.heads import Logistic, fit_head
from training.recipe import Recipe
from training.tasks import LABELS, Multilabel, Scored
from training.tasks.calibration import TEMPERATURES, fit_label_temperature
from training.tasks.multilabel import Target
from training.train import train_adapter

TASK = Multilabel()
LETTERS = ("a", "b", "c")


def read(path: Path, content: str) -> tuple[Target, ...]:
    path.write_text(content)
    return read_rows(path, Columns(), TASK).targets


def manifest(labels: tuple[str, ...], thresholds: tuple[float, ...]) -> Manifest:
    return Manifest(
        task="multilabel",
        backbone="0" * 64,
        feature="pooled",
        labels=labels,
        calibration=Calibration(temperature=1.0),
        thresholds=thresholds,
    )


def test_cells_of_text(tmp_path: Path) -> None:
    content = "text,label\none, b | a\ntwo,\nthree,a|a\nfour,[x]\nfive,  \n"
    assert read(tmp_path / "r.csv", content) == (("a", "b"), (), ("a",), ("[x]",), ())
    content = "text\tlabel\none\ta|b\n"
    assert read(tmp_path / "r.tsv", content) == (("a", "b"),)


def test_cells_of_json_and_parquet(tmp_path: Path) -> None:
    cells = [["b", "a ", "a"], [], None, "x|y", 7, ["x|y", 2]]
    lines = [json.dumps({"text": "t", "label": cell}) for cell in cells]
    found = read(tmp_path / "r.jsonl", "\n".join([*lines, '{"text": "t"}']))
    assert found == (("a", "b"), (), (), ("x", "y"), ("7",), ("2", "x|y"), ())
    path = tmp_path / "r.parquet"
    pl.DataFrame({"text": ["t"] * 3, "label": [["b", "a"], [], None]}).write_parquet(path)
    assert read_rows(path, Columns(), TASK).targets == (("a", "b"), (), ())


def test_strata_are_the_rarest_labels() -> None:
    targets = [("a", "b"), ("a",), ("a", "c"), (), ("b", "c")]
    assert TASK.strata(targets) == ["b", "a", "c", "", "b"]


def test_rare_labels_are_on_both_sides_of_a_split(tmp_path: Path) -> None:
    rows = [
        f"text {i},{'often|' if i % 2 else ''}{'rare' if i < 8 else 'other'}" for i in range(90)
    ]
    path = tmp_path / "r.csv"
    path.write_text("\n".join(["text,label", *rows]))
    data = read_rows(path, Columns(), TASK)
    for seed in range(5):
        split = split_rows(data, TASK, seed=seed)
        assert sum("rare" in data.targets[i] for i in split.test) == 2


def test_what_cannot_be_learnt_is_named() -> None:
    fine: list[Target] = [("a",), ("a", "b"), ("b",), ()] * 2
    TASK.check(fine, [("a",), ()])
    TASK.check_all(fine)
    with pytest.raises(InvalidData, match="None of the training rows has a label"):
        TASK.check([(), ()], [])
    with pytest.raises(InvalidData, match=r"that have them, and two are needed: 'c' \(1\)"):
        TASK.check([*fine, ("c",)], [])
    with pytest.raises(InvalidData, match=r"do not have them, and two are needed: 'a' \(1\)"):
        TASK.check([("a",), ("a", "b"), ("a", "b"), ("b",), ("a", "b")], [])
    with pytest.raises(InvalidData, match=r"three are needed to hold one out: 'c' \(2\)"):
        TASK.check_all([*fine, ("c",), ("c",)])
    with pytest.raises(InvalidData, match=r"do not have them, and three .*: 'a' \(2\)"):
        TASK.check_all([("a",)] * 5 + [()] * 2)
    with pytest.raises(InvalidData, match=r"never sees labels .*: 'x' \(2\)"):
        TASK.check(fine, [("a", "x"), ("x",)])
    with pytest.raises(InvalidData, match=r"adapter does not know: 'x' \(1\)"):
        TASK.check_known([("a", "x"), ()], ("a", "b"))


def test_encoding_leaves_out_what_is_no_label() -> None:
    targets: list[Target] = [("a", "c"), (), ("b", "x")]
    assert TASK.labels([("c",), ("a", "b"), ()]) == LETTERS
    y = TASK.encode(targets, LETTERS)
    assert y.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert str(y.dtype) == "float64"
    assert TASK.counts(y) == (1, 1, 1)


def drawn(truth: float, n: int = 4_000) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Raw outputs whose temperature is `truth`, and labels drawn by them."""
    generator = np.random.default_rng(0)
    logits = generator.normal(-1, 2, size=(n, 3))
    return logits * truth, (generator.random((n, 3)) < expit(logits)).astype(np.float64)


def test_losses_are_scikit_learns_and_stay_finite() -> None:
    raw, y = drawn(2.0, 50)
    expected = [log_loss(row, expit(z / 1.5), labels=[0, 1]) for row, z in zip(y, raw, strict=True)]
    np.testing.assert_allclose(TASK.losses(raw, y, 1.5), expected)
    huge = TASK.losses(np.array([[1e5, -1e5], [-1e5, 1e5]]), np.array([[1.0, 0], [1, 0]]), 1.0)
    assert huge.tolist() == [0, 1e5]


@pytest.mark.parametrize("truth", [0.25, 1.0, 4.0])
def test_a_known_temperature_is_found(truth: float) -> None:
    assert TASK.calibrate(*drawn(truth)) == pytest.approx(truth, rel=0.05)


def test_few_rows_that_are_all_right_prove_no_certainty() -> None:
    raw = np.array([[9.0], [9.0], [-9.0], [-9.0]])
    y = (raw > 0).astype(np.float64)
    # Platt's targets are 3 / 4 and 1 / 4: the logit of 3 / 4 is ln 3.
    assert fit_label_temperature(raw, y) == pytest.approx(9 / np.log(3), rel=1e-3)
    assert fit_label_temperature(-raw, y) == pytest.approx(TEMPERATURES[1], rel=1e-3)


def test_the_server_parts_the_rows_as_training_did() -> None:
    raw, y = drawn(3.0, 300)
    raw = raw.astype(np.float32).astype(np.float64)
    temperature = TASK.calibrate(raw, y)
    thresholds = TASK.thresholds(raw, y, temperature)
    found = manifest(LETTERS, thresholds).model_copy(
        update={"calibration": Calibration(temperature=temperature)}
    )
    scores = expit(raw / temperature).astype(np.float32)
    answers = TASK.predictions(Scored(["t"] * 300, list(scores)), found)
    given = [tuple(sorted(each["label"] for each in answer["labels"])) for answer in answers]
    assert TASK.encode(given, LETTERS).tolist() == (scores >= thresholds).tolist()
    assert f1_score(y, scores >= thresholds, average="macro") > f1_score(
        y, scores >= 0.5, average="macro"
    )


def test_predictions_are_best_first_and_maybe_empty() -> None:
    scores = [np.array(row, np.float32) for row in ([0.5, 0.9, 0.1], [0.1, 0.1, 0.1])]
    found = TASK.predictions(Scored(["x", "y"], scores), manifest(LETTERS, (0.5, 0.5, 0.5)))
    assert found[1] == {"labels": []}
    assert [each["label"] for each in found[0]["labels"]] == ["b", "a"]
    assert found[0]["labels"][1] == {"label": "a", "score": 0.5}


def test_measures_are_of_what_is_answered() -> None:
    scores = [np.array(row, np.float32) for row in ([0.3, 0.9], [0.1, 0.2], [0.6, 0.4])]
    targets: list[Target] = [("a", "b"), (), ("b",)]
    found = TASK.measure(Scored(["t"] * 3, scores), targets, manifest(("a", "b"), (0.25, 0.5)), 0)
    assert next(iter(found)) == "micro_f1"
    assert found["micro_f1"].value == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["exact_match"].value == pytest.approx(2 / 3)


def test_baselines() -> None:
    words = ("red car", "red", "car", "none", "no")
    texts = [f"{word} {i % 7}" for i in range(30) for word in words]
    targets: list[Target] = [("car", "red"), ("red",), ("car",), (), ()] * 30
    often = [(*target, "always") for target in targets[:140]] + targets[140:]
    test = (["a red thing", "cars or a car", "nothing"], [("always", "red"), ("car",), ()])
    found = TASK.baselines((texts, often), test, ("always", "car", "red"), 0)
    assert list(found) == ["majority", "tfidf"]
    # "always" is said of all three rows, which have three labels, among them one "always".
    assert found["majority"]["micro_f1"].value == pytest.approx(2 * 1 / (3 + 3))
    assert found["tfidf"]["macro_f1"].value > 0.8
    assert TASK.baselines(([], []), test, ("always", "car", "red"), 0) == {}
    assert TASK.baselines((texts, often), test, ("always", "car", "red"), 0) == found


def test_baselines_of_texts_without_words_are_shares() -> None:
    targets: list[Target] = [("a",), ("a",), ("a", "b"), ()]
    found = TASK.baselines((["👍"] * 4, targets), (["👎"], [("a",)]), ("a", "b"), 0)
    assert found["majority"]["exact_match"].value == 1
    assert found["tfidf"]["log_loss"] == found["majority"]["log_loss"]


def test_folds_hold_a_row_of_a_rare_label_each_and_say_nothing() -> None:
    """Strata of one row, among them the only one that nothing can be put together with."""
    targets: list[Target] = [("a",)] * 9 + [("b",)] * 9 + [("a", "b", "c"), ("a",), ("b",)]
    features = np.random.default_rng(0).normal(size=(len(targets), 4)).astype(np.float32)
    y = TASK.encode(targets, LETTERS)
    examples = of_rows(features, y)
    folds = examples.folds(TASK.strata(targets), np.arange(len(targets)), 0)
    assert len(folds) == 5
    assert sorted(np.concatenate([fold.held for fold in folds])) == list(range(len(targets)))
    fit = fit_head(Logistic(), TASK, examples.problem(LABELS, 3, "none", 0), folds)
    assert fit.thresholds is not None
    assert len(fit.thresholds) == 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def backbone(home: Path) -> Backbone:
    return make_tiny_backbone(home / "backbones")


def stage(_: str) -> Progress:
    return lambda *_: None


def write_rows(path: Path) -> Path:
    """Texts of vowels, of digits, of both and of neither."""
    random = np.random.default_rng(0)
    parts = {"vowels": "aeiou", "digits": "12345"}
    lines = ["text,label"]
    for number in range(120):
        labels = [label for place, label in enumerate(parts) if number >> place & 1]
        letters = "".join(parts[label] for label in labels) or "xyz"
        lines.append(f"{''.join(random.choice(list(letters), size=9))},{'|'.join(labels)}")
    path.write_text("\n".join(lines))
    return path


def test_rows_to_an_adapter_that_answers_as_it_was_measured(
    home: Path, backbone: Backbone, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.csv")
    cache = FeatureCache(tmp_path / "cache")
    recipe = Recipe(task="multilabel")
    trained = train_adapter(data, Columns(), backbone, cache, recipe, stage)
    again = train_adapter(data, Columns(), backbone, cache, recipe, stage)
    assert trained.content == again.content
    adapter = read_adapter(trained.content)
    found = adapter.manifest
    assert (found.task, found.labels) == ("multilabel", ("digits", "vowels"))
    assert found.thresholds is not None
    assert found.training is not None
    assert (found.training.rows, found.training.rows_per_label) == (96, (48, 46))
    assert found.measured is not None
    assert found.measured.adapter["micro_f1"].value > 0.9
    assert set(found.measured.baselines) == {"majority", "tfidf"}

    result = evaluate_adapter(adapter, data, Columns(), home / "backbones", cache, stage)
    assert result.measured == found.measured
    assert (result.measured.rows, result.held_out) == (24, True)
    texts = [line.split(",")[0] for line in data.read_text().splitlines()[1:]]
    for text, prediction in zip(texts, result.predictions, strict=True):
        feature = backbone.run([backbone.preprocess(text)], ["pooled"])["pooled"][0]
        answer = adapter.answer(feature, 1)
        assert isinstance(answer, MultiLabelled)
        pairs = [(each["label"], each["score"]) for each in prediction["labels"]]
        assert tuple(pairs) == answer.labels
    assert {len(prediction["labels"]) for prediction in result.predictions} == {0, 1, 2}
