"""What of a file of texts may teach."""

from pathlib import Path

import pytest

from training.data import unlabelled
from training.data.unlabelled import read_unlabelled
from training.errors import InvalidData


def write(folder: Path, *texts: str) -> Path:
    path = folder / "more.csv"
    path.write_text("\n".join(["text,label", *(f'"{text}",' for text in texts)]))
    return path


def test_texts_that_differ_in_no_word_stand_once(tmp_path: Path) -> None:
    path = write(tmp_path, "Where is it?", "where is it", "I paid twice")
    found = read_unlabelled(path, "text", [], [], 0)
    assert found.texts == ("Where is it?", "I paid twice")
    assert found.findings == ()


def test_neither_training_nor_test_rows_are_among_them(tmp_path: Path) -> None:
    path = write(tmp_path, "a training row", "A TEST ROW!", "another one")
    found = read_unlabelled(path, "text", ["A training row."], ["a test row"], 0)
    assert found.texts == ("another one",)
    (finding,) = found.findings
    assert (finding.code, finding.evidence) == ("unlabelled-measured", {"texts": 1})


def test_nothing_new_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no labelled row"):
        read_unlabelled(write(tmp_path, "one"), "text", ["one"], [], 0)


def test_a_missing_column_and_an_empty_cell_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="unlabelled texts, has no column 'question'"):
        read_unlabelled(write(tmp_path, "one"), "question", [], [], 0)
    with pytest.raises(InvalidData, match="text is empty in line 3"):
        read_unlabelled(write(tmp_path, "one", " "), "text", [], [], 0)


def test_of_too_many_some_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlabelled, "MOST_TEXTS", 5)
    path = write(tmp_path, *(f"text {number}" for number in range(20)))
    found = read_unlabelled(path, "text", [], [], 0)
    assert len(found.texts) == 5
    assert found.texts == read_unlabelled(path, "text", [], [], 0).texts
    assert found.texts != read_unlabelled(path, "text", [], [], 1).texts
    (finding,) = found.findings
    assert (finding.code, finding.evidence) == ("unlabelled-drawn", {"texts": 20, "drawn": 5})


def test_the_fingerprint_is_of_all_texts(tmp_path: Path) -> None:
    one = read_unlabelled(write(tmp_path, "a", "b"), "text", [], [], 0).fingerprint
    assert one != read_unlabelled(write(tmp_path, "ab"), "text", [], [], 0).fingerprint
    assert one == read_unlabelled(write(tmp_path, "a", "b"), "text", ["c"], [], 1).fingerprint


def test_labelled_rows_count_in_what_a_graph_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.unlabelled.MOST_WITH_LABELLED", 12)
    path = write(tmp_path, *(f"text {number}" for number in range(30)))
    train = [f"row {number}" for number in range(10)]
    found = read_unlabelled(path, "text", train, [], 0)
    assert len(found.texts) == 2
    (finding,) = found.findings
    assert finding.text == "of 30 unlabelled texts 2 were drawn"
    with pytest.raises(InvalidData, match="12 labelled rows"):
        read_unlabelled(path, "text", [*train, "a", "b"], [], 0)
