"""Cells of tagged text that cannot train anything: each is refused with its place."""

import json
from pathlib import Path

import pytest

from training.data.rows import Columns, read_rows
from training.errors import InvalidData
from training.measures.lexicon import lexicon_baseline
from training.tasks import Tagging
from training.tasks.tagging import MAX_TYPES

TEXT = "Anna in Rome"
GOOD = {"text": TEXT, "label": [{"start": 0, "end": 4, "label": "person"}]}


def refusal(folder: Path, *rows: object) -> str:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(InvalidData) as refused:
        read_rows(path, Columns(), Tagging())
    return str(refused.value)


def refusal_of_label(folder: Path, label: object, text: object = TEXT) -> str:
    """What is said of a second line's label, after its place."""
    message = refusal(folder, GOOD, {"text": text, "label": label})
    place = f"{folder}/rows.jsonl, line 2, column 'label': "
    assert message.startswith(place)
    return message.removeprefix(place)


def entity(start: object = 0, end: object = 4, label: object = "person") -> dict[str, object]:
    return {"start": start, "end": end, "label": label}


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (["a", "b"], ["O"], "it has 1 tags, and the text has 2 words"),
        (["a"], ["O", "B-x"], "it has 2 tags, and the text has 1 words"),
        (["a"], [], "it has 0 tags"),
        (["a", "b"], ["O", "S-x"], "tag 2, 'S-x', is none: tags are 'O', 'B-…' and 'I-…'"),
        (["a"], ["o"], "tag 1, 'o', is none"),
        (["a"], [""], "tag 1, '', is none"),
        (["a"], ["x"], "tag 1, 'x', is none"),
        (["a"], [" B-x"], "tag 1, ' B-x', is none"),
        (["a"], [None], "tag 1, None, is none"),
        (["a"], [0], "tag 1, 0, is none"),
        (["a"], [["O"]], "tag 1, ['O'], is none"),
        (["a"], ["B-"], "tag 1: the label '' is empty"),
        (["a"], ["B- x"], "tag 1: the label ' x' is empty or has space around it"),
        (["a"], ["I-x\u2028y"], "tag 1: the label 'x\\u2028y' has a control character"),
        (["a"], ["B-" + "x" * 199], "has 201 characters; 200 are allowed"),
        (["a"], ["B-\ud800"], "has a lone surrogate"),
        (["Anna"], [entity()], "entities are of a text, and here the text is a list of words"),
    ],
)
def test_tags(tmp_path: Path, words: list[str], tags: object, message: str) -> None:
    assert message in refusal_of_label(tmp_path, tags, words)


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        (["O", "O", "O"], "tags are of words, and here the text is not a list of words"),
        ([["person"]], "entity 1 is a list. Write a list of tags, or of entities with start"),
        ([None], "entity 1 is a NoneType"),
        ([entity(), {}], "entity 2 has no start"),
        ([{"start": 0, "label": "x"}], "entity 1 has no end"),
        ([{"start": 0, "end": 4}], "entity 1 has no label"),
        ([entity(label=None)], "entity 1 has no label"),
        ([entity(start="0")], "entity 1 has the start '0', which is no whole number"),
        ([entity(end=4.0)], "entity 1 has the end 4.0, which is no whole number"),
        ([entity(end=True)], "entity 1 has the end True, which is no whole number"),
        ([entity(end=float("nan"))], "entity 1 has the end nan"),
        ([entity(end=13)], "entity 1 stands at 0 to 13, and the text has the characters 0 to 12"),
        ([entity(start=-4)], "entity 1 stands at -4 to 4"),
        ([entity(start=8, end=4)], "entity 1 stands at 8 to 4"),
        ([entity(start=10**30, end=10**31)], "and the text has the characters 0 to 12"),
        ([entity(end=0)], "entity 1, at 0 to 0, is empty"),
        ([entity(start=4, end=5)], "entity 1, at 4 to 5, is space"),
        ([entity(), entity(3, 6, "y")], "'Anna' (person, 0 to 4) and 'a i' (y, 3 to 6) overlap"),
        ([entity(), entity()], "overlap. Keep one."),
        ([entity(0, 12), entity(5, 7)], "overlap"),
        ([entity(label="")], "entity 1: the label '' is empty"),
        ([entity(label="a\nb")], "entity 1: the label 'a\\nb' has a control character"),
        ([entity(label=2.5)], "entity 1: 2.5 is a float"),
        ([entity(label=["person"])], "entity 1: ['person'] is a list"),
        ([entity(label="\ud800")], "entity 1: it is not valid Unicode"),
        ([entity(label="x" * 199)], "has 201 characters; 200 are allowed"),
        ({"entities": []}, "is a dict. Write a list of tags, or of entities"),
        (4, "4 is a int. Write a list"),
        (True, "True is a bool"),
        ("person", "'person' is not JSON"),
        ("{}", "{} is a dict. Write a list"),
        ("[" * 100_000, "is not JSON"),
        ('[{"start": 0, "end": 4}', "is not JSON"),
    ],
)
def test_entities(tmp_path: Path, entities: object, message: str) -> None:
    assert message in refusal_of_label(tmp_path, entities)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the list of words is empty"),
        (["a", ""], "word 2 is empty. Remove it, and its tag"),
        (["\u2003"], "word 1 is empty"),
        (["a", None], "word 2: None is a NoneType. Write it as text"),
        ([["a"]], "word 1: ['a'] is a list"),
        (["\ud800"], "word 1: it is not valid Unicode"),
        ({"a": 1}, "is a dict. Write it as text"),
    ],
)
def test_words(tmp_path: Path, words: object, message: str) -> None:
    found = refusal(tmp_path, GOOD, {"text": words, "label": []})
    assert f"{tmp_path}/rows.jsonl, line 2, column 'text': " in found
    assert message in found


def test_rows_without_labels_are_not_rows_without_entities(tmp_path: Path) -> None:
    for label in (None, "", " "):
        message = refusal(tmp_path, GOOD, {"text": "a", "label": label})
        assert "the label is empty in line 2." in message


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    assert "--input-column" in refusal(tmp_path, {"tokens": ["a"], "label": ["O"]})
    assert "--label-column" in refusal(tmp_path, {"text": ["a"], "tags": ["O"]})


def test_more_types_than_a_head_may_have(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(MAX_TYPES + 1)]
    tags = [f"B-{word}" for word in words]
    message = refusal(tmp_path, {"text": words, "label": tags})
    assert "128 different types of entities; 127 are allowed" in message
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": words[1:], "label": tags[1:]}))
    rows = read_rows(path, Columns(), Tagging())
    assert len(Tagging().labels(rows.targets)) == 255


def test_a_long_row_is_read_in_time(tmp_path: Path) -> None:
    n = 20_000
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": ["ab"] * n, "label": ["B-x"] * n}))
    rows = read_rows(path, Columns(), Tagging())
    (target,) = rows.targets
    assert (len(target), target[-1]) == (n, (3 * n - 3, 3 * n - 1, "x"))
    assert lexicon_baseline(rows.texts, rows.targets, rows.texts) == [list(target)]
