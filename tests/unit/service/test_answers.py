import pytest

from adapters.answers import Classified, Entity, Estimated, MultiLabelled, Tagged
from adapters.entities import Span
from adapters.manifest import TaskName
from service.answers import count_scores, most_scores, to_prediction
from service.schemas import (
    ClassificationPrediction,
    MultilabelPrediction,
    Prediction,
    RegressionPrediction,
    Scored,
    TaggingPrediction,
)
from tests.support import make_manifest

A, B = Scored(label="a", score=0.75), Scored(label="b", score=0.25)


def located(text: str, spans: list[Span], first: int, end: int) -> list[tuple[int, int, str]]:
    prediction = to_prediction(Tagged((Entity("x", 0.5, first, end),)), text, spans)
    assert isinstance(prediction, TaggingPrediction)
    assert all((each.label, each.score) == ("x", 0.5) for each in prediction.entities)
    return [(each.start, each.end, each.text) for each in prediction.entities]


@pytest.mark.parametrize(
    ("answer", "prediction", "scores"),
    [
        (
            Classified((("a", 0.75), ("b", 0.25))),
            ClassificationPrediction(label="a", score=0.75, top=[A, B]),
            2,
        ),
        (
            MultiLabelled((("a", 0.75),), (("a", 0.75), ("b", 0.25))),
            MultilabelPrediction(labels=[A], top=[A, B]),
            3,
        ),
        (Estimated({"price": 2.5}), RegressionPrediction(values={"price": 2.5}), 1),
        (Tagged(()), TaggingPrediction(entities=[]), 0),
    ],
)
def test_every_answer_has_its_prediction(
    answer: Classified | MultiLabelled | Estimated | Tagged, prediction: Prediction, scores: int
) -> None:
    assert to_prediction(answer, "", ()) == prediction
    assert count_scores(prediction) == scores


def test_an_entity_is_the_text_from_its_first_token_to_its_last() -> None:
    spans = [(0, 4), (5, 9), (10, 12)]
    assert located("Anna Karr is", spans, 0, 2) == [(0, 9, "Anna Karr")]
    assert located("Anna Karr is", spans, 2, 3) == [(10, 12, "is")]


def test_characters_are_code_points() -> None:
    text = "👩‍🚀 in 東京 né"
    assert located(text, [(0, 3), (4, 6), (7, 8), (8, 9), (10, 12)], 2, 4) == [(7, 9, "東京")]
    assert located(text, [(0, 3)], 0, 1) == [(0, 3, "👩‍🚀")]


def test_space_that_a_token_carries_is_no_part_of_an_entity() -> None:
    assert located("to  Paris ", [(0, 2), (2, 10)], 1, 2) == [(4, 9, "Paris")]


def test_a_letter_keeps_its_combining_marks() -> None:
    assert located("ne\u0301\u0323 in", [(0, 2), (5, 7)], 0, 1) == [(0, 4, "ne\u0301\u0323")]


def test_tokens_that_stand_for_no_characters_make_no_entity() -> None:
    assert located("a b", [(0, 1), (1, 1), (1, 2)], 1, 3) == []
    assert located("a b", [(0, 0), (2, 3)], 0, 2) == [(2, 3, "b")]


def test_tokens_of_one_character_may_share_it() -> None:
    assert located("a 🚀", [(0, 1), (2, 3), (2, 3)], 1, 3) == [(2, 3, "🚀")]


@pytest.mark.parametrize(
    ("task", "most"), [("classification", 3), ("multilabel", 8), ("regression", 5), ("tagging", 0)]
)
def test_the_size_of_an_answer_is_known_before(task: TaskName, most: int) -> None:
    labels = ("O", "B-x", "I-x", "B-y", "I-y")
    assert most_scores(make_manifest(labels, task=task), 3) == most
