"""Copies of training texts with small changes: what a person may write who means the same.

Word drop and word swap are of EDA (Wei and Zou 2019), typos of Belinkov and Bisk 2018. Each is a
pure function of a text and a random generator, and gives a text that is not empty.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

Kind = Literal["word_drop", "word_swap", "typo"]
Augmentation = Callable[[str, np.random.Generator, float], str]  # with a rate of changes

RATES: dict[Kind, float] = {"word_drop": 0.1, "word_swap": 0.1, "typo": 0.05}
_WORD = re.compile(r"\S+")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # QWERTY, each half a key right of the one above


def word_drop(text: str, random: np.random.Generator, rate: float) -> str:
    """Each word is left out with the probability `rate`; one stays at least."""
    words = list(_WORD.finditer(text))
    if len(words) < 2:
        return text
    dropped = random.random(len(words)) < rate
    if dropped.all():
        dropped[random.integers(len(words))] = False
    # A word goes with the space before it, the first with the space behind it.
    ends = [words[0].start(), *(word.end() for word in words)]
    kept = [
        text[start:end]
        for (start, end), gone in zip(pairwise(ends), dropped, strict=True)
        if not gone
    ]
    return text[: ends[0]] + "".join(kept).lstrip() + text[ends[-1] :]


def word_swap(text: str, random: np.random.Generator, rate: float) -> str:
    """Each word trades places with the next one with the probability `rate`; once at most."""
    places = list(_WORD.finditer(text))
    words = [place.group() for place in places]
    at = 0
    while at + 1 < len(words):
        if random.random() < rate:
            words[at], words[at + 1] = words[at + 1], words[at]
            at += 1
        at += 1
    return _put(text, [place.span() for place in places], words)


def typo(text: str, random: np.random.Generator, rate: float) -> str:
    """Each letter is mistyped with the probability `rate`: one of four slips, as likely each.

    A neighbour's key on a QWERTY board (letters of others are doubled), two letters in the wrong
    order, one left out, one doubled. The first letter of a word stays, and so do digits and all
    that is no letter.
    """
    places = list(_WORD.finditer(text))
    words = ["".join(_mistyped(place.group(), random, rate)) for place in places]
    return _put(text, [place.span() for place in places], words)


AUGMENTATIONS: dict[Kind, Augmentation] = {
    "word_drop": word_drop,
    "word_swap": word_swap,
    "typo": typo,
}


def copies_of(texts: Sequence[str], kind: Kind, copies: int, seed: int) -> list[str]:
    """`copies` of each text, all first copies first: a copy's row is its place modulo the rows.

    A copy follows from seed, kind, its number and its row's place alone.
    """
    change = AUGMENTATIONS[kind]
    number = list(AUGMENTATIONS).index(kind)
    return [
        change(text, np.random.default_rng([seed, number, copy, row]), RATES[kind])
        for copy in range(copies)
        for row, text in enumerate(texts)
    ]


def _mistyped(word: str, random: np.random.Generator, rate: float) -> Iterator[str]:
    """The word's letters, the slipped ones changed."""
    slips = random.random(len(word)) < rate
    at = 0
    while at < len(word):
        letter, following = word[at], word[at + 1 : at + 2]
        if at == 0 or not slips[at] or not letter.isalpha():
            yield letter
        else:
            slip = int(random.integers(4))
            if slip == 0:
                yield _neighbour(letter, random)
            elif slip == 1 and following.isalpha():
                yield following + letter
                at += 1
            elif slip == 2:
                pass  # left out
            else:
                yield letter * 2
        at += 1


def _neighbour(letter: str, random: np.random.Generator) -> str:
    """A letter whose key touches this one's, in the same case; twice itself where there is none."""
    near = _NEAR.get(letter.lower())
    if near is None:
        return letter * 2
    found = near[int(random.integers(len(near)))]
    return found.upper() if letter.isupper() else found


def _near() -> dict[str, str]:
    """Each key with those that touch it: beside it, and two in each row above and below."""
    found = {}
    for row, keys in enumerate(_ROWS):
        for at, key in enumerate(keys):
            near = [(row, at - 1), (row, at + 1), (row - 1, at), (row - 1, at + 1)]
            near += [(row + 1, at - 1), (row + 1, at)]
            found[key] = "".join(
                _ROWS[r][c] for r, c in near if 0 <= r < len(_ROWS) and 0 <= c < len(_ROWS[r])
            )
    return found


_NEAR = _near()


def _put(text: str, spans: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    """The text with other words in the places of its own."""
    parts, end = [], 0
    for (start, stop), word in zip(spans, words, strict=True):
        parts += [text[end:start], word]
        end = stop
    return "".join([*parts, text[end:]])
