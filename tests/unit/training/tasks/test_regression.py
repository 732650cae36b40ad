import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adapters.adapter import read_adapter
from adapters.answers import Estimated
from adapters.manifest import Manifest
from backbone import Backbone
from tests.tiny import make_tiny_backbone
from training.data.rows import Columns, read_rows
from training.errors import InvalidData
from training.evaluate import evaluate_adapter
from training.features import FeatureCache, Progress
from training.recipe import Recipe
from training.tasks import Regression, Scored
from training.tasks.regression import Target
from training.train import Trained, train_adapter

TASK = Regression()


def targets_of(*rows: tuple[float, ...], names: str = "xy") -> list[Target]:
    return [tuple(zip(names, row, strict=False)) for row in rows]


def read(path: Path, content: str, label: str = "label") -> tuple[Target, ...]:
    path.write_text(content)
    return read_rows(path, Columns(label=label), TASK).targets


def test_cells_are_numbers_in_any_spelling(tmp_path: Path) -> None:
    content = "text,label\na,1\nb, -2.5 \nc,+.5e-3\nd,1E2\ne,007\nf,3.\n"
    found = read(tmp_path / "r.csv", content)
    assert [pairs for (pairs,) in found] == [
        ("label", value) for value in (1.0, -2.5, 0.0005, 100.0, 7.0, 3.0)
    ]
    lines = [json.dumps({"text": "t", "label": cell}) for cell in (3, 2.5, "1.5", -0.0)]
    found = read(tmp_path / "r.jsonl", "\n".join(lines))
    assert [target[0][1] for target in found] == [3, 2.5, 1.5, 0]


def test_decimals_of_parquet_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    pl.DataFrame({"text": ["t"], "label": [Decimal("1.25")]}).write_parquet(path)
    assert read_rows(path, Columns(), TASK).targets == ((("label", 1.25),),)


def test_several_columns_in_any_order_are_the_same_targets(tmp_path: Path) -> None:
    content = "text,weight,price\na,1,2\n"
    found = read(tmp_path / "r.csv", content, "weight, price")
    assert found == ((("price", 2.0), ("weight", 1.0)),)
    assert read(tmp_path / "r.csv", content, "price,weight") == found
    assert TASK.labels(found) == ("price", "weight")
    assert TASK.encode(found, ("weight", "price")).tolist() == [[1, 2]]


def test_a_comma_may_be_part_of_a_columns_name(tmp_path: Path) -> None:
    content = 'text,"price, EUR"\na,1\n'
    assert read(tmp_path / "r.csv", content, "price, EUR") == ((("price, EUR", 1.0),),)


@pytest.mark.parametrize(("n", "bins"), [(10, 1), (19, 1), (20, 2), (50, 5), (1000, 5)])
def test_strata_are_quantile_bins_of_the_first_target(n: int, bins: int) -> None:
    values = np.random.default_rng(0).permutation(n).astype(float)
    strata = np.array(TASK.strata(targets_of(*((value, 0.0) for value in values))))
    assert len(set(strata)) == bins
    sizes = [np.sum(strata == name) for name in sorted(set(strata))]
    assert max(sizes) - min(sizes) <= 1
    assert values[strata == "0"].max() == sizes[0] - 1


def test_strata_of_many_equal_values() -> None:
    rows = [(0.0,)] * 90 + [(5.0,)] * 10
    assert TASK.strata(targets_of(*rows, names="x")) == ["0"] * 90 + ["1"] * 10


def test_what_cannot_be_learnt_is_named() -> None:
    fine = targets_of(*((float(i), float(i % 3)) for i in range(15)))
    TASK.check_all(fine)
    TASK.check(fine[:10], fine[10:])
    with pytest.raises(InvalidData, match="There are 14 rows; 15 are needed"):
        TASK.check_all(fine[:14])
    with pytest.raises(InvalidData, match="There are 9 training rows; 10 are needed"):
        TASK.check(fine[:9], fine)
    # Two numbers, one float32.
    flat = targets_of(*((float(i), 1e9 + i) for i in range(12)))
    with pytest.raises(InvalidData, match="All training rows have the same value of 'y'"):
        TASK.check(flat, fine)
    with pytest.raises(InvalidData, match="All test rows have the same value of 'x', 'y'"):
        TASK.check(fine, fine[:1])


def test_an_adapters_targets_are_all_asked_for() -> None:
    TASK.check_known(targets_of((1, 2)), ("y", "x"))
    message = r"estimates 'x', 'z', and the rows were read with 'x', 'y'. .* --label-column x,z"
    with pytest.raises(InvalidData, match=message):
        TASK.check_known(targets_of((1, 2)), ("x", "z"))


def test_losses_are_shares_of_the_variance() -> None:
    y = np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    raw = y + np.array([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    # Variances 8 / 3, and 1 in place of none.
    assert TASK.losses(raw, y, 1.0) == pytest.approx([4 * 3 / 8 / 2, 9 / 2, 0])
    mean = np.tile(y.mean(axis=0), (3, 1))
    assert TASK.losses(mean[:, :1], y[:, :1], 1.0).mean() == pytest.approx(1)
    assert TASK.calibrate(raw, y) == 1
    assert TASK.counts(y) == (3, 3)


def test_predictions_and_measures_are_by_name() -> None:
    manifest = Manifest(task="regression", backbone="0" * 64, feature="p", labels=("x", "y"))
    scored = Scored(["t", "u"], [np.array(row, np.float32) for row in ([1, 2], [3, 5])])
    assert TASK.predictions(scored, manifest)[1] == {"values": {"x": 3.0, "y": 5.0}}
    found = TASK.measure(scored, targets_of((1, 2), (3, 4)), manifest, 0)
    assert list(found) == ["r2", "mae of x", "mae of y", "rmse of x", "rmse of y"]
    assert found["r2"].value == pytest.approx((1 + (1 - 1 / 2)) / 2)
    assert (found["mae of x"].value, found["mae of y"].value) == (0, 0.5)


def test_baselines() -> None:
    texts = [f"{word} {i % 5}" for i in range(20) for word in ("cheap", "dear")]
    train = targets_of(*((1000.0, 1.0), (3000.0, 1.0)) * 20)
    test = ["cheap 3", "dear 1"], targets_of((1000, 1), (3000, 2))
    found = TASK.baselines((texts, train), test, ("x", "y"), 0)
    assert list(found) == ["mean", "tfidf"]
    assert found["mean"]["mae of x"].value == pytest.approx(1000)
    assert found["mean"]["mae of y"].value == pytest.approx(0.5)
    assert found["tfidf"]["mae of x"].value < 200
    assert TASK.baselines((texts, train), test, ("x", "y"), 0) == found
    assert TASK.baselines(([], []), test, ("x", "y"), 0) == {}
    wordless = TASK.baselines((["👍"] * 40, train), test, ("x", "y"), 0)
    assert wordless["tfidf"] == wordless["mean"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def backbone(home: Path) -> Backbone:
    return make_tiny_backbone(home / "backbones")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """How many of a text's nine letters are vowels, in two units."""
    random = np.random.default_rng(0)
    lines = ["text,vowels,percent"]
    for number in range(100):
        vowels = number % 10
        letters = [*random.choice(list("aeiou"), vowels), *random.choice(list("xyz"), 9 - vowels)]
        lines.append(f"{''.join(random.permutation(letters))},{vowels},{vowels / 9:.1%}"[:-1])
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    return path


def stage(_: str) -> Progress:
    return lambda *_: None


def train(data: Path, label: str, backbone: Backbone, cache: Path) -> Trained:
    columns, recipe = Columns(label=label), Recipe(task="regression")
    return train_adapter(data, columns, backbone, FeatureCache(cache), recipe, stage)


def test_rows_to_an_adapter_that_answers_as_it_was_measured(
    home: Path, backbone: Backbone, data: Path, tmp_path: Path
) -> None:
    trained = train(data, "vowels,percent", backbone, tmp_path / "cache")
    adapter = read_adapter(trained.content)
    found = adapter.manifest
    assert (found.labels, found.calibration, found.thresholds) == (
        ("percent", "vowels"),
        None,
        None,
    )
    assert found.training is not None
    assert found.training.rows_per_label == (80, 80)
    assert found.measured is not None
    assert found.measured.adapter["r2"].value > 0.8
    assert set(found.measured.baselines) == {"mean", "tfidf"}
    assert found.measured.baselines["mean"]["r2"].value <= 0

    cache = FeatureCache(tmp_path / "cache")
    columns = Columns(label="percent,vowels")
    result = evaluate_adapter(adapter, data, columns, home / "backbones", cache, stage)
    assert result.measured == found.measured
    assert result.held_out
    texts = [line.split(",")[0] for line in data.read_text().splitlines()[1:]]
    for text, prediction in zip(texts, result.predictions, strict=True):
        feature = backbone.run([backbone.preprocess(text)], ["pooled"])["pooled"][0]
        assert adapter.answer(feature, 1) == Estimated(prediction["values"])
    with pytest.raises(InvalidData, match="--label-column percent,vowels"):
        evaluate_adapter(adapter, data, Columns(label="vowels"), home, cache, stage)


def test_scattered_values_of_one_text_are_no_conflict(
    backbone: Backbone, data: Path, tmp_path: Path
) -> None:
    data.write_text(data.read_text() + "\naxayaxaya,5,50\naxayaxaya,5.5,60\naxayaxaya,4,40")
    findings = train(data, "vowels", backbone, tmp_path / "cache").manifest.findings
    assert not any("conflict" in each.code for each in findings)
