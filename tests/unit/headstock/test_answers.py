from headstock.answers import prediction_table, truncation_note
from headstock.client.answers import Entity, Prediction, Scored

A: Scored = {"label": "a", "score": 0.75}
B: Scored = {"label": "b", "score": 0.25}


def test_classification_shows_the_best_labels() -> None:
    first: Prediction = {"label": "a", "score": 0.75, "top": [A, B]}
    second: Prediction = {"label": "b", "score": 0.25, "top": [B]}
    columns, rows = prediction_table(["x", "y"], [first, second])
    assert columns == ("text", "label", "score")
    assert rows == [("x", "a", "0.750"), ("", "b", "0.250"), ("y", "b", "0.250")]


def test_multilabel_shows_what_applies_first() -> None:
    predictions: list[Prediction] = [{"labels": [A], "top": [A, B]}, {"labels": [], "top": [B]}]
    columns, rows = prediction_table(["x", "y"], predictions)
    assert columns == ("text", "label", "score", "applies")
    assert rows == [
        ("x", "a", "0.750", "yes"),
        ("", "b", "0.250", "no"),
        ("y", "b", "0.250", "no"),
    ]


def test_regression_shows_a_value_a_target() -> None:
    columns, rows = prediction_table(["x"], [{"values": {"price": 1234.5, "days": 0.1}}])
    assert columns == ("text", "target", "value")
    assert rows == [("x", "price", "1234.5"), ("", "days", "0.1")]


def test_tagging_shows_entities_and_says_where_there_are_none() -> None:
    entity: Entity = {"label": "city", "score": 0.9, "start": 3, "end": 7, "text": "Oslo"}
    columns, rows = prediction_table(["in Oslo", "x"], [{"entities": [entity]}, {"entities": []}])
    assert columns == ("text", "entity", "label", "score", "characters")
    assert rows == [
        ("in Oslo", "Oslo", "city", "0.900", "3-7"),
        ("x", "none", "", "", ""),
    ]


def test_texts_that_were_cut_are_counted_from_one() -> None:
    assert truncation_note(5, [0, 3]).startswith("Note: 2 of 5 texts are longer")
    assert truncation_note(5, [0, 3]).endswith("cut: 1, 4.")
