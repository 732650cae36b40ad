import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.adapter import Adapter, read_adapter
from adapters.answers import Classified
from adapters.container import read_container
from backbone import Backbone, BackboneNotFound
from tests.tiny import MAX_LENGTH, make_tiny_backbone
from training import augment as augmentation
from training.data.rows import Columns
from training.errors import InvalidData, TrainingError
from training.evaluate import Evaluated, evaluate_adapter
from training.features import FeatureCache, Progress, compute_features
from training.heads import METHODS, Knn, MethodName, Problem
from training.heads.base import FittedHead, Settings
from training.output import check_output
from training.recipe import Recipe, make_recipe
from training.train import Trained, train_adapter


def stage(_: str) -> Progress:
    return lambda *_: None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def backbone(home: Path) -> Backbone:
    return make_tiny_backbone(home / "backbones")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two easy classes: texts of vowels, texts of digits."""
    random = np.random.default_rng(0)
    lines = ["text,label,split"]
    for number in range(60):
        letters, label = (("aeiou", "letters"), ("12345", "digits"))[number % 2]
        text = "".join(random.choice(list(letters), size=6))
        lines.append(f"{text}{number},{label},{'test' if number >= 40 else 'train'}")
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    return path


def train(data: Path, backbone: Backbone, cache: Path, columns: Columns | None = None) -> Trained:
    return train_adapter(data, columns or Columns(), backbone, FeatureCache(cache), Recipe(), stage)


def test_training_gives_a_sound_adapter(data: Path, backbone: Backbone, tmp_path: Path) -> None:
    trained = train(data, backbone, tmp_path / "cache")
    adapter = read_adapter(trained.content)
    assert adapter.digest == trained.digest
    assert adapter.manifest.labels == ("digits", "letters")
    assert adapter.manifest.backbone == backbone.digest
    assert adapter.manifest.training is not None
    assert adapter.manifest.training.rows_per_label == (20, 20)
    assert adapter.manifest.measured is not None
    assert adapter.manifest.measured.rows == 20
    assert adapter.manifest.measured.adapter["accuracy"].value == 1.0
    assert set(adapter.manifest.measured.baselines) == {"majority", "tfidf"}
    assert adapter.manifest.measured.baselines["majority"]["accuracy"].value == 0.5


@pytest.mark.usefixtures("short_grid_of_nets")
@pytest.mark.parametrize("head", METHODS)
def test_every_head_is_trained_and_evaluated(
    head: MethodName, data: Path, backbone: Backbone, home: Path, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    trained = train_adapter(data, Columns(), backbone, cache, Recipe(head=head), stage)
    adapter = read_adapter(trained.content)
    measured = adapter.manifest.measured
    assert measured is not None
    assert measured.adapter["accuracy"].value > 0.8
    assert adapter.manifest.training is not None
    assert adapter.manifest.training.settings["method"] == head
    assert evaluate(adapter, data, home, tmp_path).measured == measured


def test_a_knn_heads_golden_rows_are_those_that_it_chose(
    data: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[NDArray[np.float32]] = []

    def fit(self: Knn, problem: Problem, settings: Settings) -> FittedHead:
        head = real(self, problem, settings)
        assert head.golden is not None
        chosen.append(head.golden)
        return head

    real = Knn.fit
    monkeypatch.setattr(Knn, "fit", fit)
    recipe = Recipe(head="knn", names="no")
    cache = FeatureCache(tmp_path / "cache")
    trained = train_adapter(data, Columns(), backbone, cache, recipe, stage)
    _, tensors = read_container(trained.content)
    np.testing.assert_array_equal(tensors["golden.features"], chosen[0])


def test_the_same_training_is_the_same_file(data: Path, backbone: Backbone, tmp_path: Path) -> None:
    first = train(data, backbone, tmp_path / "one")
    again = train(data, backbone, tmp_path / "other")
    assert first.content == again.content


@pytest.mark.parametrize("augment", ["auto", "typo"])
def test_copies_of_training_rows_leave_test_rows_and_counts_alone(
    augment: str, data: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    real = augmentation.copies_of

    def spy(texts: Sequence[str], *rest: Any) -> list[str]:
        copied.extend(texts)
        return real(texts, *rest)

    monkeypatch.setattr("training.copies.copies_of", spy)
    recipe = make_recipe({"augment": augment, "copies": 2, "names": "no"})
    trained, again = (
        train_adapter(data, Columns(), backbone, FeatureCache(tmp_path / name), recipe, stage)
        for name in ("one", "other")
    )
    assert trained.content == again.content
    training, measured = trained.manifest.training, trained.manifest.measured
    assert training is not None
    assert measured is not None
    assert (training.rows, training.rows_per_label, measured.rows) == (40, (20, 20), 20)
    tested = {line.split(",")[0] for line in data.read_text().splitlines() if "test" in line}
    assert len(copied) == 2 * (3 if augment == "auto" else 1) * 40
    assert not tested & set(copied)
    losses = [name for name in training.settings if name.startswith("out_of_fold_loss_")]
    assert len(losses) == (4 if augment == "auto" else 0)
    assert training.settings["augment"] in ("none", *augmentation.RATES)


def test_evaluation_repeats_what_training_measured(
    data: Path, backbone: Backbone, home: Path, tmp_path: Path
) -> None:
    trained = train(data, backbone, tmp_path / "cache")
    adapter = read_adapter(trained.content)
    result = evaluate(adapter, data, home, tmp_path)
    assert result.measured == trained.manifest.measured
    assert [each["label"] for each in result.predictions] == ["digits", "letters"][::-1] * 10


def test_predictions_are_what_the_head_gives_alone(
    data: Path, backbone: Backbone, home: Path, tmp_path: Path
) -> None:
    adapter = read_adapter(train(data, backbone, tmp_path / "cache").content)
    result = evaluate(adapter, data, home, tmp_path)
    texts = [line.split(",")[0] for line in data.read_text().splitlines()[41:]]
    for text, prediction in zip(texts, result.predictions, strict=True):
        feature = backbone.run([backbone.preprocess(text)], ["pooled"])["pooled"][0]
        ranked = ((prediction["label"], prediction["score"]),)
        assert adapter.answer(feature, 1) == Classified(ranked)


def evaluate(adapter: Adapter, data: Path, home: Path, folder: Path) -> Evaluated:
    cache = FeatureCache(folder / "cache")
    return evaluate_adapter(adapter, data, Columns(), home / "backbones", cache, stage)


def test_leaks_and_conflicts_are_reported(data: Path, backbone: Backbone, tmp_path: Path) -> None:
    rows = data.read_text().splitlines()
    leaked = rows[-1].split(",")[0]
    rows += [f'"  {leaked.upper()}! ",letters,train', f"{leaked},digits,train"]
    data.write_text("\n".join(rows))
    content = train(data, backbone, tmp_path / "cache").content
    found = {each.code: each for each in read_adapter(content).manifest.findings}
    assert found["leaked-test-rows"].evidence == {"rows": 1}
    assert "too: 1 (row 60 of the data)" in found["leaked-test-rows"].text
    assert found["conflicting-labels"].evidence == {"texts": 1}
    assert "different rows: 1 (row 61 of the data)" in found["conflicting-labels"].text
    severities = {code: each.severity for code, each in found.items()}
    assert severities == {
        "leaked-test-rows": "warning",
        "conflicting-labels": "warning",
        "repeated-rows": "info",
    }
    # A file goes to other places than the rows of its training.
    assert leaked.encode() not in content


def test_rows_that_stand_twice_tell_a_fold_nothing(backbone: Backbone, tmp_path: Path) -> None:
    """Labels are drawn by lot: who is judged by what was fitted seems to know them."""
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("abcdefgh"), size=8)) for _ in range(120)]
    labels = random.choice(["one", "two"], size=len(texts))
    lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    twice = [f"{line},train" for line in lines[:80]] + [f"{line},train" for line in lines[:80]]
    data = tmp_path / "rows.csv"
    data.write_text(
        "\n".join(["text,label,split", *twice, *(f"{line},test" for line in lines[80:])])
    )
    cache = FeatureCache(tmp_path / "cache")
    recipe = Recipe(head="knn")  # which knows every row by heart
    manifest = train_adapter(data, Columns(), backbone, cache, recipe, stage).manifest
    assert manifest.training is not None
    assert float(manifest.training.settings["out_of_fold_loss"]) > 0.5  # 0.27 with copies
    (found,) = (each for each in manifest.findings if each.code == "repeated-rows")
    assert found.evidence == {"rows": 80}


def test_a_better_baseline_is_pointed_out(backbone: Backbone, tmp_path: Path) -> None:
    """The classes differ by the order of two letters, which a mean of tokens cannot see."""
    words = {"one": "ab ab", "two": "ba ba"}
    rows = [
        {"text": f"{words[label]} {number:02d} {number:02d}", "label": label, "split": split}
        for split, count in (("train", 40), ("test", 40))
        for number in range(count)
        for label in words
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    findings = train(data, backbone, tmp_path / "cache").manifest.findings
    (found,) = (each for each in findings if each.code == "weak-adapter")
    assert found.severity == "warning"
    assert found.evidence == {"baselines": ("majority", "tfidf")}


def test_a_baseline_that_is_as_good_is_pointed_out(backbone: Backbone, tmp_path: Path) -> None:
    """The classes differ in nothing, so that the adapter always answers the more frequent one."""
    rows = [
        {"text": f"ab {number:03d}", "label": "one" if number % 4 else "two", "split": split}
        for split, first in (("train", 0), ("test", 80))
        for number in range(first, first + 80)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    trained = train(data, backbone, tmp_path / "cache")
    measured = trained.manifest.measured
    assert measured is not None
    assert measured.adapter["accuracy"].value == 0.75
    assert measured.baselines["majority"]["accuracy"].value == 0.75
    (found,) = trained.manifest.findings
    assert found.code == "weak-adapter"
    assert "no better than: majority" in found.text


def test_labels_that_look_alike_and_unused_splits_are_pointed_out(
    data: Path, backbone: Backbone, tmp_path: Path
) -> None:
    lines = data.read_text().splitlines()
    lines[2::4] = [line.replace("digits", "digits\u200b") for line in lines[2::4]]
    data.write_text("\n".join([*lines, "hello,letters,validation"]))
    manifest = train(data, backbone, tmp_path / "cache").manifest
    found = {each.code: each.text for each in manifest.findings}
    assert r"'digits' and 'digits\u200b'; they are trained" in found["similar-labels"]
    assert found["unused-rows"] == "rows of other splits are not used: 'validation' (1)"


@pytest.mark.parametrize(("n_long", "severity"), [(1, "info"), (4, "warning")])
def test_texts_that_are_cut_are_counted(
    data: Path, backbone: Backbone, home: Path, tmp_path: Path, n_long: int, severity: str
) -> None:
    """Also those whose features are cached already."""
    lines = data.read_text().splitlines()
    for place in range(n_long):
        text, _, rest = lines[1 + place].partition(",")
        lines[1 + place] = f"{text * MAX_LENGTH},{rest}"
    data.write_text("\n".join(lines))
    for _ in range(2):
        trained = train(data, backbone, tmp_path / "cache")
        (found,) = trained.manifest.findings
        assert (found.code, found.severity) == ("inputs-truncated", severity)
        assert found.evidence == {"training_rows": n_long, "max_length": MAX_LENGTH}
        assert found.text.startswith(f"{n_long} of 40 training rows are longer than the 16 tokens")
    without = "\n".join(line.rsplit(",", 1)[0] for line in lines)
    (tmp_path / "all.csv").write_text(without)
    adapter = read_adapter(trained.content)
    (found,) = evaluate(adapter, tmp_path / "all.csv", home, tmp_path).findings
    assert (found.code, found.evidence["data_rows"]) == ("inputs-truncated", n_long)


def test_an_unknown_backbone_is_named(data: Path, backbone: Backbone, tmp_path: Path) -> None:
    adapter = read_adapter(train(data, backbone, tmp_path / "cache").content)
    with pytest.raises(BackboneNotFound, match=f"trained on backbone {backbone.digest}"):
        evaluate(adapter, data, tmp_path / "elsewhere", tmp_path)


def test_labels_that_the_adapter_does_not_know_are_named(
    data: Path, backbone: Backbone, home: Path, tmp_path: Path
) -> None:
    adapter = read_adapter(train(data, backbone, tmp_path / "cache").content)
    data.write_text(data.read_text() + "\nhello,greeting,test")
    with pytest.raises(InvalidData, match="does not know: 'greeting'"):
        evaluate(adapter, data, home, tmp_path)


def test_data_without_splits_is_evaluated_whole(
    data: Path, backbone: Backbone, home: Path, tmp_path: Path
) -> None:
    adapter = read_adapter(train(data, backbone, tmp_path / "cache").content)
    lines = data.read_text().splitlines()
    data.write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    result = evaluate(adapter, data, home, tmp_path)
    assert result.measured.rows == 60
    assert result.measured.baselines == {}


def test_the_rows_of_the_training_are_measured_where_it_held_them_out(
    data: Path, backbone: Backbone, home: Path, tmp_path: Path
) -> None:
    lines = data.read_text().splitlines()
    data.write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    cache = FeatureCache(tmp_path / "cache")
    trained = train_adapter(data, Columns(), backbone, cache, Recipe(seed=5), stage)
    adapter = read_adapter(trained.content)
    result = evaluate(adapter, data, home, tmp_path)
    assert result.measured == trained.manifest.measured
    assert (result.measured.rows, result.held_out) == (12, True)
    assert len(result.predictions) == 60
    assert "measured are the 12 that its training held out, not all 60" in result.findings[0].text
    data.write_text("\n".join(data.read_text().splitlines()[:-1]))
    other = evaluate(adapter, data, home, tmp_path)
    assert (other.measured.rows, other.held_out, other.findings) == (59, False, ())


def test_features_are_computed_once(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path / "features.sqlite")
    texts = ["one", "two", "one", "three"]
    reports: list[tuple[int, int]] = []
    first = compute_features(
        backbone, texts, "pooled", cache, lambda done, total: reports.append((done, total))
    )
    assert reports[0] == (0, 3)
    assert reports[-1] == (3, 3)
    assert np.array_equal(first[0], first[2])
    monkeypatch.setattr(backbone, "run", lambda *_: pytest.fail("computed again"))
    again = compute_features(backbone, texts, "pooled", cache, lambda *_: None)
    assert np.array_equal(first, again)


def test_an_interruption_keeps_what_was_computed(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path / "features.sqlite")
    monkeypatch.setattr("training.features._BATCH_TOKENS", 6)
    texts = [f"text{number}" for number in range(20)]

    def interrupt(done: int, _: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_features(backbone, texts, "pooled", cache, interrupt)
    reports: list[int] = []
    compute_features(backbone, texts, "pooled", cache, lambda done, _: reports.append(done))
    assert reports[0] >= 10


def test_the_cache_is_free_for_others_while_rows_are_computed(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path / "features.sqlite")
    monkeypatch.setattr("training.features._BATCH_TOKENS", 6)

    def write_beside(done: int, _: int) -> None:
        with closing(sqlite3.connect(cache.path, timeout=0)) as other, other:
            other.execute("INSERT INTO rows VALUES (?, ?, 0)", (bytes([done]), b""))

    texts = [f"text{number}" for number in range(5)]
    compute_features(backbone, texts, "pooled", cache, write_beside)


def test_another_computer_computes_anew(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path / "features.sqlite")
    compute_features(backbone, ["a"], "pooled", cache, lambda *_: None)
    monkeypatch.setattr("onnxruntime.__version__", "99.0")
    reports: list[int] = []
    compute_features(backbone, ["a"], "pooled", cache, lambda done, _: reports.append(done))
    assert reports[0] == 0


def test_a_damaged_cache_says_that_it_may_be_deleted(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite"
    path.write_bytes(b"this is no database, and long enough to be looked at" * 10)
    with pytest.raises(TrainingError, match="delete it"):
        compute_features(backbone, ["a"], "pooled", FeatureCache(path), lambda *_: None)


def test_an_output_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is a folder"):
        check_output(tmp_path)
    with pytest.raises(TrainingError, match="does not exist"):
        check_output(tmp_path / "nowhere" / "file")
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="Not a directory"):
        check_output(tmp_path / "file" / "file")


def test_an_output_replaces_files_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(TrainingError, match="is a device, pipe or socket"):
            check_output(path)
    (tmp_path / "file").touch()
    (tmp_path / "to-file").symlink_to(tmp_path / "file")
    for name in ("new", "file", "to-file"):
        check_output(tmp_path / name)
