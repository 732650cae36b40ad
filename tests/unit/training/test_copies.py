"""Changed copies teach on their row's side of a fold alone, and only where they clearly help."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.augment import Kind, copies_of
from training.copies import choose, choose_with_copies, with_copies
from training.errors import InvalidRecipe
from training.examples import Examples, of_rows
from training.features import Encoded
from training.heads import METHODS, Chosen, choose_head
from training.heads.folds import NO_ROW
from training.recipe import Recipe, make_recipe
from training.tasks import TASKS, Classification

WIDTH = 6


def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """A bag of words: the first letter of each says its dimension, its number how much."""
    x = np.zeros((len(texts), WIDTH), np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            x[row, "abcdef".find(word[0])] += 1
    return x


def placed(texts: Sequence[str]) -> NDArray[np.float32]:
    """The same with a place for each word: what moves is something else."""
    x = np.zeros((len(texts), 8, WIDTH), np.float32)
    for row, text in enumerate(texts):
        for place, word in enumerate(text.split()[:8]):
            x[row, place, "abcdef".find(word[0])] = 1
    return x.reshape(len(texts), -1)


def run(
    texts: Sequence[str],
    labels: NDArray[np.int64],
    recipe: Recipe,
    vectors: Callable[[Sequence[str]], NDArray[np.float32]] = vectors,
) -> dict[str, object]:
    """What the recipe's `augment` led to."""
    task = TASKS["classification"]
    strata = [str(label) for label in labels]

    def fit(examples: Examples, what: str) -> Chosen:
        problem = examples.problem(task.KIND, 2, "none", 0)
        return choose_head(
            METHODS["logistic"], task, problem, examples.folds(strata, np.arange(len(strata)), 0)
        )

    def encode(changed: Sequence[str], what: str) -> Encoded:
        return Encoded(list(vectors(changed)))

    examples = of_rows(vectors(texts), labels)
    found, tried = choose_with_copies(recipe, texts, examples, None, fit, encode)
    return {**tried, "loss": found.loss}


@given(
    st.integers(4, 40),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(0, 1000),
)
def test_no_copy_of_a_held_out_row_teaches(
    n_rows: int, n_copies: int, n_names: int, seed: int
) -> None:
    y = np.arange(n_rows) % 2
    plain = of_rows(np.arange(n_rows, dtype=np.float32)[:, None], y)
    names = np.full((n_names, 1), -1, np.float32)
    taught = plain.with_taught(names, np.zeros(n_names, np.int64), np.full(n_names, NO_ROW))
    rows = np.arange(n_rows, dtype=np.float32)
    copies = Encoded([np.array([row]) for row in np.tile(rows, n_copies)])  # each bears its row
    examples = with_copies(taught, copies, n_rows)
    assert len(examples.x) == n_rows * (1 + n_copies) + n_names
    for fold in examples.folds([str(label) for label in y], np.arange(len(y)), seed):
        held, train = examples.x[fold.held, 0], examples.x[fold.train, 0]
        assert not set(held.tolist()) & set(train.tolist())
        assert (fold.held < n_rows).all()  # copies are never judged
        own = train[train >= 0]
        assert all((own == row).sum() == 1 + n_copies for row in set(own.tolist()))
    assert (examples.y[n_rows + n_names :] == np.tile(y, n_copies)).all()


def test_targets_of_any_kind_are_copied() -> None:
    values = np.array([[0.5, 3.0], [0.1, 2.0]])
    x = np.zeros((2, 1), np.float32)
    examples = with_copies(of_rows(x, values), Encoded([x[0]] * 4), 2)
    assert (examples.y == np.concatenate([values] * 3)).all()
    assert examples.rows.tolist() == [0, 1] * 3
    assert examples.judged.tolist() == [True] * 2 + [False] * 4


def test_copies_of_noise_are_not_taken() -> None:
    taken = []
    for seed in range(4):
        random = np.random.default_rng(seed)
        texts = [" ".join(random.choice(list("abcdef"), 5)) for _ in range(60)]
        labels = random.permutation(np.arange(60) % 2)
        taken.append(run(texts, labels, Recipe(augment="auto"))["augment"])
    assert taken == ["none"] * 4


def test_copies_that_hurt_are_not_taken() -> None:
    """A label is a word: rows with "a" or with "b"; dropping it makes a lie of the copy."""
    random = np.random.default_rng(0)
    labels = np.arange(80) % 2
    texts = [f"{'ab'[label]} {random.choice(list('cdef'))}" for label in labels]
    found = run(texts, labels, Recipe(augment="auto"))
    assert found["augment"] == "none"
    assert found["loss"] == found["out_of_fold_loss_none"]
    worse = found["out_of_fold_loss_word_drop"]
    assert isinstance(worse, float)
    assert worse > float(str(found["out_of_fold_loss_none"]))
    forced = run(texts, labels, Recipe(augment="word_drop", copies=2))
    assert forced == {"augment": "word_drop", "copies": 2.0, "loss": forced["loss"]}
    assert float(str(forced["loss"])) > float(str(found["loss"]))


def test_copies_that_clearly_help_are_taken() -> None:
    """A word says the label wherever it stands, and features say where each word stands."""
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    texts = []
    for label in labels:
        words = random.choice(list("cdef"), 6)
        words[random.integers(6)] = "ab"[label]
        texts.append(" ".join(words))
    found = run(texts, labels, Recipe(augment="auto", copies=8), placed)
    assert found["augment"] == "word_swap"
    assert found["loss"] == found["out_of_fold_loss_word_swap"]
    assert float(str(found["loss"])) < 0.5 * float(str(found["out_of_fold_loss_none"]))


def test_none_tries_nothing() -> None:
    assert set(run(["a", "b"] * 5, np.arange(10) % 2, Recipe())) == {"loss"}


def chosen_of(losses: Sequence[float]) -> Chosen:
    n = len(losses)
    rows = of_rows(np.zeros((n, 1), np.float32), np.zeros(n, np.int64))
    problem = rows.problem("class", 2, "none", 0)
    return Chosen(problem, {}, 1.0, np.zeros((n, 2)), problem.y, np.array(losses), 2)


def test_a_gain_must_be_clear() -> None:
    without = chosen_of([1.0, 1.0, 1.0, 1.0])
    small = chosen_of([0.0, 1.9, 0.9, 1.0])  # better by 0.05 +- 0.39
    sure = chosen_of([0.9, 0.8, 0.9, 0.8])
    surest = chosen_of([0.8, 0.7, 0.8, 0.7])
    worse = chosen_of([1.1, 1.2, 1.1, 1.2])
    tried: dict[Kind, Chosen] = {"word_drop": small, "word_swap": worse}
    assert choose(without, tried) is None
    assert choose(without, {"typo": worse}) is None
    assert choose(without, {"typo": without}) is None
    assert choose(without, {"word_drop": sure, "typo": surest, "word_swap": worse}) == "typo"
    far = replace(surest, losses=surest.losses + 0.11)
    assert choose(without, {"word_drop": sure, "typo": far}) == "word_drop"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": "typo", "lora": {}}, "augment: LoRA is trained on rows as they are"),
        ({"augment": "typos"}, "augment: Input should be 'none', 'auto', 'word_drop'"),
        ({"augment": "typo", "copies": 0}, "copies: "),
        ({"augment": "typo", "copies": 9}, "copies: "),
    ],
)
def test_recipes_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRecipe, match=message):
        make_recipe(settings)


def test_spans_would_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classification, "PER_TOKEN", True)
    with pytest.raises(InvalidRecipe, match="has its words elsewhere"):
        make_recipe({"augment": "auto"})


def test_copies_are_of_each_kind_their_own() -> None:
    text = ["one two three four five six seven eight nine ten"] * 5
    assert len({tuple(copies_of(text, kind, 1, 0)) for kind in ("word_drop", "word_swap")}) == 2
    assert len(set(copies_of(text, "typo", 2, 0))) > 3
