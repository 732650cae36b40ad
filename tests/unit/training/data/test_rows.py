import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.manifest import check_label
from training.data.rows import Columns, Rows, read_rows
from training.errors import InvalidData
from training.tasks import TASKS

ENCODINGS = [
    "utf-8",
    "utf-8-sig",
    *(f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-le", "-be")),
]
TRICKY = ["NA", "null", "None", "007", "nan", "true", "1.0", "-", "NULL"]


def read(path: Path, columns: Columns | None = None) -> Rows[str]:
    return read_rows(path, columns or Columns(), TASKS["classification"])


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_as(folder: Path, suffix: str, table: dict[str, list[str]]) -> Path:
    path = folder / f"rows{suffix}"
    frame = pl.DataFrame(table)
    if suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix in {".csv", ".tsv"}:
        frame.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    elif suffix == ".json":
        frame.write_json(path)
    else:
        frame.write_ndjson(path)
    return path


@pytest.mark.parametrize(
    "suffix", [".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".CSV"]
)
def test_every_format_reads_the_same_rows(tmp_path: Path, suffix: str) -> None:
    table = {"text": ['say "hi", you', "two\nlines"], "label": ["a", "b"], "split": ["x", "y"]}
    path = write_as(tmp_path, suffix.lower(), table).rename(tmp_path / f"data{suffix}")
    assert read(path) == Rows(('say "hi", you', "two\nlines"), ("a", "b"), ("x", "y"))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize("has_splits", [False, True])
def test_test_rows_may_have_a_file_of_their_own(
    tmp_path: Path, suffix: str, has_splits: bool
) -> None:
    """The files may be of two formats, and may say of which split they are."""
    content = "text,label\na,x\nb,y\n"
    if has_splits:
        content = "text,label,split\na,x,train\nb,y, train \n"
    train = write(tmp_path / "train.csv", content)
    more = {"split": ["test"]} if has_splits else {}
    test = write_as(tmp_path, suffix, {"text": ["c"], "label": ["x"], **more})
    rows = read(train, Columns(test_data=test))
    assert rows == Rows(("a", "b", "c"), ("x", "y", "x"), ("train", "train", "test"))
    named = read(train, Columns(train="train", test="test", test_data=test))
    assert named.fingerprint == rows.fingerprint


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_nothing_is_inferred_from_a_value(tmp_path: Path, suffix: str) -> None:
    rows = read(write_as(tmp_path, suffix, {"text": TRICKY, "label": TRICKY}))
    assert rows == Rows(tuple(TRICKY), tuple(TRICKY), None)


def test_integers_become_their_digits(tmp_path: Path) -> None:
    parquet = tmp_path / "rows.parquet"
    pl.DataFrame({"text": ["a", "b"], "label": [1, -2]}).write_parquet(parquet)
    lines = write(tmp_path / "rows.jsonl", '{"text":"a","label":1}\n{"text":"b","label":"x"}\n')
    assert read(parquet).targets == ("1", "-2")
    assert read(lines).targets == ("1", "x")


def test_categories_of_parquet_are_labels(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame = pl.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    frame.with_columns(pl.col("label").cast(pl.Categorical)).write_parquet(path)
    assert read(path).targets == ("x", "y")


def test_labels_and_splits_are_stripped_and_texts_are_not(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "text,label,split\n a , x ,\ttrain\n")
    assert read(path) == Rows((" a ",), ("x",), ("train",))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_with_and_without_a_mark_read_alike(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "rows.csv", "text,label\ncafé ☕,ja\n".encode(encoding))
    assert read(path) == Rows(("café ☕",), ("ja",), None)
    path = write(tmp_path / "rows.json", '[{"text": "日本 ☕", "label": "ja"}]'.encode(encoding))
    assert read(path) == Rows(("日本 ☕",), ("ja",), None)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson"])
def test_a_list_a_row_and_lines_of_json(tmp_path: Path, suffix: str) -> None:
    rows = Rows(("a", "b"), ("x", "y"), None)
    found = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    path = tmp_path / f"rows{suffix}"
    lines = "\n".join(map(json.dumps, found))
    for content in (json.dumps(found), json.dumps(found, indent=2), lines):
        assert read(write(path, content)) == rows
    assert read(write(path, json.dumps(found[0], indent=2))) == Rows(("a",), ("x",), None)


def test_a_field_of_any_length(tmp_path: Path) -> None:
    text = "word " * 60_000
    assert read(write(tmp_path / "rows.csv", f"text,label\n{text},x\n")).texts == (text,)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_blank_lines(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / "rows.csv", end.join(["text,label", "a,x", "", "b,y", ""]))
    assert read(path) == Rows(("a", "b"), ("x", "y"), None)


def test_a_bare_quote_inside_a_field_is_text(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", 'text,label\na 6" pipe,order\nb,other\n')
    assert read(path).texts == ('a 6" pipe', "b")


def test_semicolons_are_recognised_before_the_commas_inside_texts_are_counted(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "rows.csv", "text;label\nhello, you;greeting\n")
    with pytest.raises(InvalidData, match="separator seems to be ';'"):
        read(path)


@pytest.mark.parametrize("label", ["a\u2028b", "a\u2029b", "a\x1bb", "a" * 201])
def test_what_training_takes_as_a_label_an_adapter_may_have(tmp_path: Path, label: str) -> None:
    path = write(tmp_path / "rows.jsonl", json.dumps({"text": "a", "label": label}))
    with pytest.raises(InvalidData, match="line 1, column 'label': the label 'a"):
        read(path)
    with pytest.raises(ValueError, match="the label 'a"):
        check_label(label)


def test_other_columns_can_be_named_and_the_rest_ignored(tmp_path: Path) -> None:
    line = '{"q": "a", "intent": "x", "fold": "1", "score": null, "more": [1]}\n'
    rows = read(write(tmp_path / "r.jsonl", line), Columns("q", "intent", "fold"))
    assert rows == Rows(("a",), ("x",), ("1",))


def test_a_json_string_may_hold_a_line_separator(tmp_path: Path) -> None:
    line = json.dumps({"text": "a\u2028b", "label": "x"}, ensure_ascii=False)
    assert read(write(tmp_path / "r.jsonl", line)).texts == ("a\u2028b",)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip), min_size=1, max_size=5
    )
)
def test_json_lines_keep_any_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    lines = [json.dumps({"text": text, "label": "x"}, ensure_ascii=False) for text in texts]
    write(path, "\n".join(lines))
    assert read(path).texts == tuple(texts)
