"""Changed copies of any text: never empty, the same by seed, and no more than was asked for."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.augment import AUGMENTATIONS, RATES, Kind, copies_of, typo, word_drop, word_swap

SENTENCE = "Where is my Order number 4711? It has been three weeks since somebody sent it."
texts = st.text(min_size=1, max_size=80)
rates = st.floats(0, 1)
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(list(AUGMENTATIONS))


@given(texts, kinds, seeds, rates)
def test_a_text_stays_a_text(text: str, kind: Kind, seed: int, rate: float) -> None:
    changed = AUGMENTATIONS[kind](text, np.random.default_rng(seed), rate)
    assert changed
    assert bool(changed.strip()) == bool(text.strip())
    changed.encode()  # no half of a character


@given(texts, kinds, seeds)
def test_a_rate_of_nothing_changes_nothing(text: str, kind: Kind, seed: int) -> None:
    assert AUGMENTATIONS[kind](text, np.random.default_rng(seed), 0.0) == text


@given(st.lists(texts, min_size=1, max_size=5), kinds, seeds)
def test_copies_follow_from_the_seed_and_their_row(texts: list[str], kind: Kind, seed: int) -> None:
    copies = copies_of(texts, kind, 2, seed)
    assert len(copies) == 2 * len(texts)
    assert copies == copies_of(texts, kind, 2, seed)
    assert copies[: len(texts)] == copies_of(texts, kind, 1, seed)
    assert copies[0] == copies_of(texts[:1], kind, 1, seed)[0]  # whatever rows follow


@given(texts, seeds, rates)
def test_words_are_dropped_and_none_is_made(text: str, seed: int, rate: float) -> None:
    left = iter(text.split())
    changed = word_drop(text, np.random.default_rng(seed), rate)
    assert all(word in left for word in changed.split())  # in their order


@given(texts, seeds, rates)
def test_swapped_words_are_the_same_words(text: str, seed: int, rate: float) -> None:
    words = text.split()
    changed = word_swap(text, np.random.default_rng(seed), rate).split()
    assert Counter(changed) == Counter(words)
    for at, word in enumerate(changed):  # each a place away at most
        assert word in words[max(0, at - 1) : at + 2]


@given(texts, seeds, rates)
def test_typos_keep_first_letters_spaces_and_all_that_is_no_letter(
    text: str, seed: int, rate: float
) -> None:
    changed = typo(text, np.random.default_rng(seed), rate)
    assert [word[0] for word in changed.split()] == [word[0] for word in text.split()]
    assert [each for each in changed if not each.isalpha()] == [
        each for each in text if not each.isalpha()
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_rate_of_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    assert word_drop(SENTENCE, random, 1.0) in SENTENCE.split()
    assert word_swap("a  b c\td e", random, 1.0) == "b  a d\tc e"
    assert typo("4711 !? -", random, 1.0) == "4711 !? -"
    assert typo("aG", random, 1.0) in {"a", "aGG", *(f"a{near}" for near in "FHTYVB")}
    assert typo("aß", random, 1.0) in {"a", "aßß"}  # a letter that has no key


def test_all_four_slips_are_made() -> None:
    seen = {typo("sea", np.random.default_rng(seed), 0.5) for seed in range(300)}
    assert {"swa", "sae", "sa", "seea"} <= seen  # neighbour, wrong order, left out, doubled


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_changes_are_as_frequent_as_the_rate_says(rate: float) -> None:
    n_words, n_texts = 20, 400
    text = " ".join(f"word{number}" for number in range(n_words))
    dropped = swapped = slips = 0
    for seed in range(n_texts):
        dropped += n_words - len(word_drop(text, np.random.default_rng(seed), rate).split())
        words = word_swap(text, np.random.default_rng(seed), rate).split()
        swapped += (
            sum(ours != theirs for ours, theirs in zip(words, text.split(), strict=True)) // 2
        )
        letters = typo("q" + "w" * 20, np.random.default_rng(seed), rate)
        slips += sum(letter != "w" for letter in letters[1:])
    assert dropped / (n_words * n_texts) == pytest.approx(rate, rel=0.15)
    # A pair that is swapped hides one that would have begun with its second word.
    assert swapped / ((n_words - 1) * n_texts) == pytest.approx(rate / (1 + rate), rel=0.15)
    # A quarter are neighbours' keys; two letters that are alike trade places unseen, as one.
    assert slips / (20 * n_texts) == pytest.approx(rate / 4, rel=0.25)


def test_usual_rates_leave_some_sentences_as_they_are() -> None:
    for kind in RATES:
        copies = copies_of([SENTENCE] * 200, kind, 1, 0)
        assert 0.02 < np.mean([copy == SENTENCE for copy in copies]) < 0.4
