"""A baseline of tagging: words have the tags that they mostly had in training."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from adapters.entities import Span
from adapters.manifest import OUTSIDE
from training.data.spans import TypedSpan, to_spans, to_tags

# Each punctuation mark is a word of its own: an entity seldom has the full stop behind it.
_WORD = re.compile(r"\w+|[^\w\s]")


def lexicon_baseline(
    train_texts: Sequence[str],
    train_spans: Sequence[Sequence[TypedSpan]],
    test_texts: Sequence[str],
) -> list[list[TypedSpan]]:
    """The entities of each test text: a word's tag is its most frequent one, whatever the case.

    Words that training has not seen, or as often with one tag as with another, are outside.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, spans in zip(train_texts, train_spans, strict=True):
        pieces = _words(text)
        for (start, end), tag in zip(pieces, to_tags(spans, pieces), strict=True):
            counts[text[start:end].lower()][tag] += 1
    lexicon = {word: _most_frequent(tags) for word, tags in counts.items()}
    found = []
    for text in test_texts:
        pieces = _words(text)
        tags = [lexicon.get(text[start:end].lower(), OUTSIDE) for start, end in pieces]
        found.append(to_spans(tags, pieces, text))
    return found


def _words(text: str) -> list[Span]:
    return [match.span() for match in _WORD.finditer(text)]


def _most_frequent(tags: Counter[str]) -> str:
    (first, most), *others = tags.most_common(2)
    return OUTSIDE if others and others[0][1] == most else first
