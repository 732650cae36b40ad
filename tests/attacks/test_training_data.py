"""Files that cannot train anything: each is refused, and the message says where and what to do."""

import json
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from adapters.manifest import MAX_LABELS
from training.data.rows import Columns, read_rows
from training.errors import InvalidData
from training.tasks import TASKS


def refusal(path: Path, content: str | bytes | None = None, **columns: Any) -> str:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InvalidData) as refused:
        read_rows(path, Columns(**columns), TASKS["classification"])
    assert refused.value.code == "invalid-data"
    return str(refused.value)


def test_a_missing_file(tmp_path: Path) -> None:
    assert f"no file {tmp_path}/none.csv" in refusal(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "a\x00b.csv", "rows.csv/rows.csv"])
def test_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    assert "There is no file" in refusal(tmp_path / name)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "rows.csv cannot be read: Permission denied" in refusal(tmp_path / "rows.csv")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["rows.xlsx", "rows"])
def test_an_unknown_suffix_lists_the_known(tmp_path: Path, name: str) -> None:
    assert ".csv, .tsv, .json, .jsonl, .ndjson, .parquet" in refusal(
        tmp_path / name, "text,label\na,b\n"
    )


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    assert "is empty" in refusal(tmp_path / f"rows.{suffix}", b"")


@pytest.mark.parametrize("content", [b"\n \n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_a_file_of_nothing_visible(tmp_path: Path, content: bytes) -> None:
    assert "is empty" in refusal(tmp_path / "rows.csv", content)


def test_a_header_alone(tmp_path: Path) -> None:
    assert "no rows" in refusal(tmp_path / "rows.csv", "text,label\n")
    pl.DataFrame({"text": [], "label": []}).write_parquet(tmp_path / "rows.parquet")
    assert "no rows" in refusal(tmp_path / "rows.parquet")


def test_a_missing_column_with_a_near_one(tmp_path: Path) -> None:
    message = refusal(tmp_path / "rows.csv", "texts,label\na,b\n")
    assert "no column 'text'; it has 'texts', 'label'" in message
    assert "--input-column 'texts'" in message


def test_a_missing_column_with_none_near(tmp_path: Path) -> None:
    message = refusal(tmp_path / "rows.jsonl", '{"text": "a", "intent": "b"}')
    assert "no column 'label'; it has 'text', 'intent'" in message
    assert "Name the right one with --label-column" in message


def test_a_named_split_column_must_exist(tmp_path: Path) -> None:
    message = refusal(tmp_path / "rows.csv", "text,label,fold\na,b,c\n", split="folds")
    assert "--split-column 'fold'" in message


def test_a_likely_label_is_not_proposed_as_the_text(tmp_path: Path) -> None:
    message = refusal(tmp_path / "rows.csv", "message,intent\na,b\n")
    assert "it has 'message', 'intent'. Name the right one with --input-column" in message


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_recognised(tmp_path: Path, separator: str) -> None:
    message = refusal(tmp_path / "rows.csv", f"text{separator}label\na{separator}b\n")
    assert f"separator seems to be {separator!r}" in message


@pytest.mark.parametrize("header", ["text,text,label", "text,label,text"])
def test_a_column_twice(tmp_path: Path, header: str) -> None:
    assert "2 columns 'text'" in refusal(tmp_path / "rows.csv", f"{header}\na,b,c\n")


def test_one_column_for_both(tmp_path: Path) -> None:
    message = refusal(tmp_path / "rows.csv", "text,label\na,b\n", label="text")
    assert "cannot both be the column 'text'" in message


def test_another_encoding_names_line_and_byte(tmp_path: Path) -> None:
    message = refusal(tmp_path / "rows.csv", "text,label\na,b\ncafé,c\n".encode("latin-1"))
    assert "line 3: byte 0xe9 at position 18 is not UTF-8. Save the file as UTF-8" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_wide_encodings_cut_short(tmp_path: Path, encoding: str) -> None:
    content = "text,label\na,b".encode(encoding)[:-1]
    assert f"is not UTF-{encoding[4:6]}" in refusal(tmp_path / "rows.csv", content)


def test_an_unclosed_quote_names_the_record_where_it_opens(tmp_path: Path) -> None:
    content = 'text,label\n"two\nlines",x\n"open,y\nb,z\n'
    assert "record that starts on line 4 is broken" in refusal(tmp_path / "rows.csv", content)


def test_text_after_a_closing_quote(tmp_path: Path) -> None:
    content = 'text,label\na,x\n"b" c,y\n'
    assert "record that starts on line 3 is broken" in refusal(tmp_path / "rows.csv", content)


@pytest.mark.parametrize(("line", "fields"), [("yes, please,x", 3), ("alone", 1)])
def test_a_wrong_number_of_fields(tmp_path: Path, line: str, fields: int) -> None:
    message = refusal(tmp_path / "rows.csv", f"text,label\na,x\n\n{line}\n")
    assert f"line 4 has {fields} fields, and the header has 2" in message


@pytest.mark.parametrize(
    "line", ['{"text": "b", "label":', '{"text": "b"} {}', "[" * 100_000, "9" * 5000, "text,label"]
)
def test_a_broken_json_line(tmp_path: Path, line: str) -> None:
    content = f'{{"text": "a", "label": "x"}}\n\n{line}\n'
    assert "line 3 " in refusal(tmp_path / "rows.jsonl", content)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"text": "a", "label": "x"}, ["b", "y"]]', "row 2 holds a JSON list"),
        ('[{"text": "a", "label": "x"},]', "is not a whole JSON list"),
        ('[{"text": "a", "label": "x"}', "is not a whole JSON list"),
        ('{"data": [{"text": "a", "label": "x"}]}', "one JSON object with the keys 'data'"),
        ('{"text": ["a", "b"], "label": ["x", "y"]}', "is a list. Write it as text"),
        ('{"version": 1, "rows": [{"text": "a"}]}', "no column 'text'; it has 'version', 'rows'"),
        ("[]", "has no rows"),
        ("{}", "has no column 'text'"),
        ('"text"', "line 1 holds a JSON str"),
        ('{"text": "a",\n"label": "x"}\n{"text": "b",\n"label": "y"}', "line 1 is not JSON"),
    ],
)
def test_json_that_holds_no_rows(tmp_path: Path, suffix: str, content: str, reason: str) -> None:
    assert reason in refusal(tmp_path / f"rows{suffix}", content)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("rows.xlsx", "Save the sheet as CSV"), ("rows.csv.gz", "Unpack it"), ("a.txt", "Rename it")],
)
def test_files_of_other_programs_get_advice(tmp_path: Path, name: str, advice: str) -> None:
    assert advice in refusal(tmp_path / name, "text,label\na,x\n")


@pytest.mark.parametrize("cut", [4, 60, -1])
def test_a_parquet_file_cut_short(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"text": ["a"], "label": ["x"]}).write_parquet(path)
    assert "not a whole Parquet file" in refusal(path, path.read_bytes()[:cut])


def test_a_csv_called_parquet(tmp_path: Path) -> None:
    assert "not a whole Parquet file" in refusal(tmp_path / "rows.parquet", "text,label\na,x\n")


def test_empty_texts_are_named_by_line_with_quoted_lines_counted(tmp_path: Path) -> None:
    content = 'text,label\n"a\nb",x\n,x\n' + " ,x\n" * 6
    message = refusal(tmp_path / "rows.csv", content)
    assert "the text is empty in lines 4, 5, 6, 7, 8 and 2 more" in message


@pytest.mark.parametrize("value", ['""', '"\\t"', "null"])
def test_empty_labels_of_json(tmp_path: Path, value: str) -> None:
    content = f'{{"text": "a", "label": "x"}}\n{{"text": "a", "label": {value}}}\n'
    assert "the label is empty in line 2." in refusal(tmp_path / "rows.jsonl", content)


def test_a_json_line_without_the_label(tmp_path: Path) -> None:
    content = '{"text": "a", "label": "x"}\n{"text": "a"}\n'
    assert "the label is empty in line 2." in refusal(tmp_path / "rows.jsonl", content)


def test_an_empty_split(tmp_path: Path) -> None:
    content = "text,label,split\na,x,train\nb,y,\n"
    assert "the split is empty in line 3." in refusal(tmp_path / "rows.csv", content)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("2.5", "float"), ("1.0", "float"), ("NaN", "float"), ("true", "bool"), ("[1]", "list")],
)
def test_labels_that_are_no_text(tmp_path: Path, value: str, kind: str) -> None:
    content = f'{{"text": "a", "label": "x"}}\n{{"text": "a", "label": {value}}}\n'
    message = refusal(tmp_path / "rows.jsonl", content)
    assert "line 2, column 'label': " in message
    assert f"is a {kind}. Write it as text" in message


def test_numbers_and_nulls_of_parquet_are_named_by_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"text": ["a", "b"], "label": [1.0, 2.0]}).write_parquet(path)
    assert "row 1, column 'label': 1.0 is a float" in refusal(path)
    pl.DataFrame({"text": ["a", None], "label": ["x", "y"]}).write_parquet(path)
    assert "the text is empty in row 2." in refusal(path)


def test_half_a_surrogate_pair(tmp_path: Path) -> None:
    content = '{"text": "a", "label": "x"}\n{"text": "\\ud800", "label": "x"}\n'
    message = refusal(tmp_path / "rows.jsonl", content)
    assert "line 2, column 'text': it is not valid Unicode" in message


def test_a_label_that_is_a_text(tmp_path: Path) -> None:
    content = f"text,label\na,{'x' * 200}\nb,{'y' * 201}\n"
    message = refusal(tmp_path / "rows.csv", content)
    assert "line 3, column 'label': the label 'yyyy" in message
    assert "has 201 characters; 200 are allowed" in message


@pytest.mark.parametrize("character", ["\n", "\x00", "\x1b", "\u2028", "\x85"])
def test_control_characters_in_a_label(tmp_path: Path, character: str) -> None:
    line = json.dumps({"text": "a", "label": f"x{character}y"})
    message = refusal(tmp_path / "rows.jsonl", line)
    assert "line 1, column 'label': the label" in message
    assert "control character" in message


def test_more_labels_than_a_head_may_have(tmp_path: Path) -> None:
    lines = [f"a,{i}" for i in range(MAX_LABELS + 1)]
    message = refusal(tmp_path / "rows.csv", "\n".join(["text,label", *lines]))
    assert "10,001 different labels; 10,000 are allowed" in message
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines[:-1]]))
    rows = read_rows(tmp_path / "rows.csv", Columns(), TASKS["classification"])
    assert len(rows.targets) == MAX_LABELS


@pytest.mark.parametrize(
    "cells",
    [
        ([0, 1, 0], [1, 0, 0]),
        ([True, False], [False, True]),
        ([1.0, 0.0], [0.0, 1.0]),
        ("[1, 0]", "[0, 1]"),
        ("0 1 1", "1 0 0"),
        ("0|1", "1|1"),
        ("(1.0, 0.0)", "(0.0, 1.0)"),
    ],
)
@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_labels_as_vectors_of_0_and_1(
    tmp_path: Path, task: Literal["classification", "multilabel"], cells: tuple[object]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": "a", "label": cell}) for cell in cells))
    with pytest.raises(InvalidData, match=r"the column 'label' holds 0/1 vectors of length [23]"):
        read_rows(path, Columns(), TASKS[task])


@pytest.mark.parametrize("cells", [("0", "1"), ("10", "01"), ("1.0", "0.0"), ("1 0", "2 0")])
def test_labels_that_only_look_like_vectors_are_labels(
    tmp_path: Path, cells: tuple[str, str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": "a", "label": cell}) for cell in cells))
    assert read_rows(path, Columns(), TASKS["classification"]).targets == cells


def test_a_file_of_test_rows_is_read_like_the_other(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\n")
    for name, content, said in (
        ("none.csv", None, f"There is no file {tmp_path}/none.csv"),
        ("empty.csv", "", "empty.csv is empty"),
        ("no-label.csv", "text\na\n", "no-label.csv has no column 'label'"),
        ("bad.csv", "text,label\na,\n", "bad.csv: the label is empty in line 2"),
        ("split.csv", "text,label,split\na,x,train\n", "rows of the split 'train', and with"),
    ):
        if content is not None:
            (tmp_path / name).write_text(content)
        assert said in refusal(tmp_path / "train.csv", test_data=tmp_path / name)


def test_rows_of_another_split_beside_a_file_of_test_rows(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\na,x\n")
    content = "text,label,split\na,x,train\nb,y,test\n"
    message = refusal(tmp_path / "rows.csv", content, test_data=tmp_path / "test.csv")
    assert "rows.csv has rows of the split 'test'" in message
    assert "leave --test-data out" in message


def test_one_file_for_both_training_and_test_rows(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")
    for name in ("rows.csv", "link.csv"):
        message = refusal(tmp_path / "rows.csv", "text,label\na,x\n", test_data=tmp_path / name)
        assert "cannot hold the training rows and be --test-data too" in message


@pytest.mark.parametrize("columns", [["Text", "label"], [" text ", "label"], ["TEXT", "label"]])
def test_a_column_in_another_case_is_proposed(tmp_path: Path, columns: list[str]) -> None:
    message = refusal(tmp_path / "rows.csv", f"{','.join(columns)}\na,x\n")
    assert f"Did you mean --input-column {columns[0]!r}?" in message


def test_a_tsv_that_has_commas(tmp_path: Path) -> None:
    message = refusal(tmp_path / "rows.tsv", "text,label\na,x\n")
    assert "separator seems to be ','. Save it with commas as .csv" in message


def test_columns_as_pandas_writes_them(tmp_path: Path) -> None:
    frame = {"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}}
    message = refusal(tmp_path / "rows.json", json.dumps(frame))
    assert "orient='records'" in message


def test_a_label_that_is_no_text(tmp_path: Path) -> None:
    message = refusal(tmp_path / "rows.json", '[{"text": "a", "label": 1.5}]')
    assert "column 'label': 1.5 is a float. Write it as text. Is it the right column?" in message
