from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.answers import Classified, Entity, Estimated, MultiLabelled, Tagged, rank
from adapters.heads import HEADS
from adapters.manifest import HEADS_OF, TaskName
from adapters.tasks import TASKS, Task, join_entities
from tests.support import make_manifest

Floats = NDArray[np.float32]


def array(*values: float) -> Floats:
    return np.array(values, dtype=np.float32)


def task(name: TaskName, labels: tuple[str, ...], **changes: Any) -> Task:
    return TASKS[name].build(make_manifest(labels, task=name, **changes))


def test_the_catalogues_are_those_of_the_manifest() -> None:
    assert set(TASKS) == set(HEADS_OF)
    assert set(HEADS) == {head for heads in HEADS_OF.values() for head in heads}


@pytest.mark.parametrize("name", ["classification", "tagging"])
def test_probabilities_are_the_softmax_of_the_scaled_outputs(name: TaskName) -> None:
    raw = array(-1, 0.5, 2)
    exponentials = np.exp(raw.astype(np.float64) / 0.8)
    scores = task(name, ("O", "B-x", "I-x")).scores(raw)
    assert scores.dtype == np.float32
    assert scores == pytest.approx(exponentials / exponentials.sum(), abs=1e-7)


@pytest.mark.parametrize("name", ["classification", "multilabel", "tagging"])
def test_large_outputs_have_finite_scores(name: TaskName) -> None:
    scores = task(name, ("O", "B-x", "I-x")).scores(array(-3e38, 0, 3e38))
    assert scores[0] == 0
    assert scores[2] == 1


def test_classification_ranks() -> None:
    scores = array(0.25, 0.5, 0.25, 0.0)
    answer = task("classification", ("a", "b", "c", "d")).answer(scores, 3)
    assert answer == Classified((("b", 0.5), ("a", 0.25), ("c", 0.25)))


def test_equal_scores_keep_the_order_of_labels() -> None:
    assert [label for label, _ in rank("abcd", array(0.2, 0.3, 0.2, 0.3), 9)] == list("bdac")


def test_multilabel_scores_are_sigmoids_of_their_own() -> None:
    scores = task("multilabel", ("a", "b")).scores(array(0, 1.6))
    assert scores.dtype == np.float32
    assert scores == pytest.approx([0.5, 1 / (1 + np.exp(-2))], abs=1e-7)


def test_a_label_applies_from_its_threshold_on() -> None:
    multilabel = task("multilabel", ("a", "b", "c", "d"), thresholds=(0.7, 0.7, 0.1, 1.0))
    scores = array(0.7, 0.699, 0.2, 0.999)
    seven, two, last = float(scores[0]), float(scores[2]), float(scores[3])
    expected = MultiLabelled((("a", seven), ("c", two)), (("d", last),))
    assert multilabel.answer(scores, 1) == expected


def test_no_label_may_apply_and_one_label_is_enough() -> None:
    multilabel = task("multilabel", ("urgent",))
    assert multilabel.answer(array(0.25), 5) == MultiLabelled((), (("urgent", 0.25),))


def test_regression_gives_the_values_as_they_are() -> None:
    regression = task("regression", ("price", "days"))
    raw = array(1e30, -2.5)
    assert np.array_equal(regression.scores(raw), raw)
    assert regression.answer(raw, 1) == Estimated({"price": float(raw[0]), "days": -2.5})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O O", []),
        ("B-x", [("x", 0, 1)]),
        ("O B-x I-x O", [("x", 1, 3)]),
        ("B-x B-x I-x", [("x", 0, 1), ("x", 1, 3)]),
        ("B-x I-y", [("x", 0, 1), ("y", 1, 2)]),
        ("I-x I-x", [("x", 0, 2)]),
        ("O I-x", [("x", 1, 2)]),
        ("B-x O I-x", [("x", 0, 1), ("x", 2, 3)]),
        ("I-x B-x", [("x", 0, 1), ("x", 1, 2)]),
        ("I-x I-y I-x", [("x", 0, 1), ("y", 1, 2), ("x", 2, 3)]),
        ("B-x I-x I-x", [("x", 0, 3)]),
        ("B-O I-O O", [("O", 0, 2)]),
        ("B-x-y I-x-y I-x", [("x-y", 0, 2), ("x", 2, 3)]),
    ],
)
def test_bio_tags_become_entities(tags: str, expected: list[tuple[str, int, int]]) -> None:
    found = join_entities(tags.split(), [0.5] * len(tags.split()))
    assert [(each.label, each.first, each.end) for each in found] == expected
    assert all(each.score == 0.5 for each in found)


def test_an_entity_has_the_mean_score_of_its_tokens() -> None:
    tagging = task("tagging", ("O", "B-x", "I-x"))
    scores = np.array([[0.8, 0.1, 0.1], [0, 0.75, 0.25], [0.25, 0.25, 0.5]], dtype=np.float32)
    assert tagging.answer(scores, 1) == Tagged((Entity("x", 0.625, 1, 3),))


def test_a_text_without_tokens_has_no_entities() -> None:
    tagging = task("tagging", ("O", "B-x", "I-x"))
    scores = tagging.scores(np.zeros((0, 3), dtype=np.float32))
    assert tagging.answer(scores, 1) == Tagged(())
