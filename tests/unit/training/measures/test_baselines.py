import numpy as np
import pytest

from training.measures.baselines import majority_baseline, tfidf_baseline

TEXTS = ["lost my card", "card is lost", "top up failed", "the top up did not work"] * 3
LABELS = np.array([0, 0, 2, 2] * 3)


def test_the_majority_has_the_shares_of_training() -> None:
    p = majority_baseline(np.array([0, 2, 2, 2]), np.array([1, 2]), 4)
    assert p.tolist() == [[0.25, 0, 0.75, 0]] * 2


def test_words_decide_and_an_unseen_class_has_no_share() -> None:
    p = tfidf_baseline(TEXTS, LABELS, ["my card was lost", "top up"], 4, seed=0)
    assert p.argmax(axis=1).tolist() == [0, 2]
    assert p.shape == (2, 4)
    assert not p[:, [1, 3]].any()
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_pairs_of_words_decide_where_words_cannot() -> None:
    texts = ["card not top up", "top up not card"] * 5
    p = tfidf_baseline(texts, np.array([0, 1] * 5), texts[:2], 2, seed=0)
    assert p.argmax(axis=1).tolist() == [0, 1]


def test_single_characters_are_words() -> None:
    p = tfidf_baseline(["a", "b"] * 3, np.array([0, 1] * 3), ["b", "a"], 2, seed=0)
    assert p.argmax(axis=1).tolist() == [1, 0]


def test_texts_of_no_words_fall_back_to_the_majority() -> None:
    p = tfidf_baseline(["👍", "👎", "👎"], np.array([0, 1, 1]), ["🎉", "word"], 2, seed=0)
    np.testing.assert_allclose(p, [[1 / 3, 2 / 3]] * 2)


def test_a_test_text_of_unknown_words_still_gets_probabilities() -> None:
    p = tfidf_baseline(TEXTS, LABELS, ["👍", "zebra"], 3, seed=0)
    np.testing.assert_allclose(p.sum(axis=1), 1)


@pytest.mark.parametrize("n_classes", [2, 9])
def test_the_same_call_gives_the_same_bits(n_classes: int) -> None:
    texts = [f"word{i % n_classes} other{i % 5}" for i in range(6 * n_classes)]
    labels = np.arange(6 * n_classes) % n_classes
    one, two = (tfidf_baseline(texts, labels, texts, n_classes, seed=0) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert (one.argmax(axis=1) == labels).all()
