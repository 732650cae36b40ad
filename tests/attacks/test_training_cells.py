"""Cells that are no labels and no numbers: each is refused where it stands."""

import json
from pathlib import Path

import polars as pl
import pytest

from adapters.manifest import MAX_LABELS, TaskName
from training.data.rows import Columns, read_rows
from training.data.splits import split_rows
from training.errors import InvalidData
from training.tasks import TASKS
from training.tasks.regression import MAX_TARGETS


def refusal(task: TaskName, path: Path, label: str = "label") -> str:
    with pytest.raises(InvalidData) as refused:
        read_rows(path, Columns(label=label), TASKS[task])
    return str(refused.value)


def of_cell(task: TaskName, folder: Path, cell: object) -> str:
    """The refusal of a JSON line with this cell, after one that is fine."""
    path = folder / "rows.jsonl"
    lines = [json.dumps({"text": "a", "label": each}) for each in ("1", cell)]
    path.write_text("\n".join(lines))
    message = refusal(task, path)
    assert f"{path}, line 2, column 'label': " in message
    return message


@pytest.mark.parametrize("cell", ["a||b", "|", "a|", "| a", "a | | b"])
def test_an_empty_label_between_others(tmp_path: Path, cell: str) -> None:
    assert "has a '|' with no label on one side" in of_cell("multilabel", tmp_path, cell)


@pytest.mark.parametrize("cell", ['["a", "b"]', "['a', 'b']", " ['a']"])
def test_a_list_written_as_text(tmp_path: Path, cell: str) -> None:
    assert "is a list written as text. Write a|b" in of_cell("multilabel", tmp_path, cell)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (["a", ""], "label '' is empty"),
        (["a", "  "], "label '' is empty"),
        (["a", None], "None is a NoneType"),
        (["a", ["b"]], "['b'] is a list"),
        ([True], "True is a bool"),
        ([1.5], "1.5 is a float"),
        (True, "True is a bool"),
        ({"a": 1}, "is a dict"),
        (["\ud800"], "not valid Unicode"),
        (["a\nb"], "control character"),
        ("a|b\x1bc", "control character"),
        ("a|" + "x" * 201, "has 201 characters; 200 are allowed"),
    ],
)
def test_what_is_no_list_of_labels(tmp_path: Path, cell: object, reason: str) -> None:
    assert reason in of_cell("multilabel", tmp_path, cell)


def test_parquet_lists_with_nulls_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"text": ["a", "b"], "label": [["x"], [None]]}).write_parquet(path)
    assert "row 2, column 'label': None is a NoneType" in refusal("multilabel", path)
    pl.DataFrame({"text": ["a"], "label": [[0.5]]}).write_parquet(path)
    assert "row 1, column 'label': 0.5 is a float" in refusal("multilabel", path)


def test_more_labels_than_a_head_may_have(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    cell = "|".join(str(number) for number in range(MAX_LABELS))
    path.write_text(f"text,label\na,{cell}\nb,one more\n")
    assert "10,001 different labels; 10,000 are allowed" in refusal("multilabel", path)


def test_a_column_of_no_labels_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "a,\n" * 9)
    rows = read_rows(path, Columns(), TASKS["multilabel"])
    with pytest.raises(InvalidData, match="None of the rows has a label"):
        split_rows(rows, TASKS["multilabel"], seed=0)


def test_a_missing_column_of_labels_is_not_rows_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,labels\na,x\n")
    assert "Did you mean --label-column 'labels'?" in refusal("multilabel", path)


@pytest.mark.parametrize("cell", ["0x10", "--1", "1e", ".", "+", "1.2.3"])
def test_numbers_that_are_not_whole(tmp_path: Path, cell: str) -> None:
    assert f"{cell!r} is no number." in of_cell("regression", tmp_path, cell)


@pytest.mark.parametrize("cell", ["inf", "nan", "٣", "½", "12 kg", "1 000", "1,5", "1_000"])
def test_text_that_is_no_number(tmp_path: Path, cell: str) -> None:
    assert f"{cell!r} is no number. Write it like 12" in of_cell("regression", tmp_path, cell)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (True, "True is no number but a bool"),
        (False, "False is no number but a bool"),
        ([1], "[1] is no number but a list"),
        (float("nan"), "nan is not finite"),
        (float("-inf"), "-inf is not finite"),
        ("1e999", "'1e999' is not finite"),
        (10**400, "is not finite"),
        (-1e31, "-1e+31 is beyond 1e+30"),
    ],
)
def test_what_is_no_finite_number(tmp_path: Path, cell: object, reason: str) -> None:
    assert reason in of_cell("regression", tmp_path, cell)


@pytest.mark.parametrize("cell", ["null", '""', '" "'])
def test_an_empty_value_is_refused(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "a", "label": 1}}\n{{"text": "a", "label": {cell}}}\n')
    assert "the label is empty in line 2." in refusal("regression", path)


def test_parquet_booleans_and_dates(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"text": ["a"], "label": [True]}).write_parquet(path)
    assert "row 1, column 'label': True is no number but a bool" in refusal("regression", path)
    pl.DataFrame({"text": ["a"], "label": ["2020-01-01"]}).with_columns(
        pl.col("label").str.to_date()
    ).write_parquet(path)
    assert "is no number but a date" in refusal("regression", path)


def test_the_bad_one_of_several_columns_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,x,y\na,1,2\nb,3,four\n")
    assert "line 3, column 'y': 'four' is no number" in refusal("regression", path, "x,y")
    assert "no column 'z'" in refusal("regression", path, "x,z")
    assert "no column ''" in refusal("regression", path, "x,")
    assert "names a column twice" in refusal("regression", path, "x, x")
    assert "cannot both be the column 'text'" in refusal("regression", path, "x,text")
    assert "cannot both be the column 'text'" in refusal("regression", path, "text")


@pytest.mark.parametrize(
    ("name", "reason"), [(" x", "space around it"), ("a\x1bb", "control"), ("x" * 101, "101")]
)
def test_columns_that_no_target_can_be_named_after(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "a", name: 1}))
    message = refusal("regression", path, name)
    assert reason in message
    assert "Rename it" in message


def test_more_targets_than_can_be_measured(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    names = [f"t{number}" for number in range(MAX_TARGETS + 1)]
    path.write_text(json.dumps({"text": "a", **dict.fromkeys(names, 1)}))
    assert "101 targets are more than the 100" in refusal("regression", path, ",".join(names))
