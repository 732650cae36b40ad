"""From tokens to characters: where the entities of a tagger stand in a text."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.answers import Entity

Span = tuple[int, int]  # characters of a text, the second one past the last


@dataclass(frozen=True, slots=True)
class Located:
    """An entity's characters (Unicode code points), from `start` to before `end`."""

    label: str
    score: float
    start: int
    end: int


def locate(entities: Sequence[Entity], text: str, tokens: Sequence[Span]) -> list[Located]:
    """The entities' characters; those whose tokens stand for none but space are left out.

    `tokens` are the spans of the tokens that the tagger was given.
    """
    found = []
    for entity in entities:
        spans = [span for span in tokens[entity.first : entity.end] if span[0] < span[1]]
        if not spans:
            continue
        start, end = min(first for first, _ in spans), max(last for _, last in spans)
        if trimmed := trim(text, (start, end)):
            found.append(Located(entity.label, entity.score, *trimmed))
    return found


def trim(text: str, span: Span) -> Span | None:
    """The span as answers have it: no space at its ends, whole letters; None if nothing is left.

    Some tokenizers put the space before a word into its token, and leave out combining marks.
    """
    start, end = span
    piece = text[start:end]
    start, end = start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
    if start >= end:
        return None
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1
    return start, end
