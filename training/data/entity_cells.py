"""Cells of tagged text to a text with the spans of its entities."""

import json
from collections.abc import Sequence
from itertools import pairwise

from adapters.entities import trim
from adapters.manifest import OUTSIDE, check_label
from training.data.spans import TypedSpan, TypedSpans, to_spans
from training.data.tables import as_text

Words = tuple[str, ...]
Labels = Sequence[object]  # tags, or entities; which of the two says the text's cell
_FORMS = "Write a list of tags, or of entities with start, end and label"


def parse_text(cell: object) -> str | Words:
    """A text, or the words of one. Raises ValueError."""
    if not isinstance(cell, list):
        return as_text(cell)
    if not cell:
        raise ValueError("the list of words is empty. Remove the row.")
    return tuple(_word(number, word) for number, word in enumerate(cell, start=1))


def parse_labels(cell: object) -> Labels:
    """A list, or the JSON of one. Raises ValueError."""
    if isinstance(cell, str):
        try:
            found: object = json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{cell!r:.40} is not JSON ({error}). {_FORMS}.") from None
    else:
        found = cell
    if not isinstance(found, list):
        raise ValueError(f"{found!r:.40} is a {type(found).__name__}. {_FORMS}.")
    return found


def parse_row(text: str | Words, labels: Labels) -> tuple[str, TypedSpans]:
    """The text, whose words are joined by single spaces, with its entities. Raises ValueError."""
    if isinstance(text, str):
        return text, _of_entities(text, labels)
    if len(labels) != len(text):
        raise ValueError(f"it has {len(labels)} tags, and the text has {len(text)} words.")
    return _of_tags(text, [_tag(number, tag) for number, tag in enumerate(labels, start=1)])


def _of_tags(words: Words, tags: Sequence[str]) -> tuple[str, TypedSpans]:
    pieces = []
    start = 0
    for word in words:
        pieces.append((start, start + len(word)))
        start += len(word) + 1
    text = " ".join(words)
    return text, tuple(to_spans(tags, pieces, text))


def _of_entities(text: str, labels: Labels) -> TypedSpans:
    """As answers have them: without space at their ends, so that they can be found at all."""
    spans = sorted(_entity(number, each, text) for number, each in enumerate(labels, start=1))
    for one, other in pairwise(spans):
        if other[0] < one[1]:
            raise ValueError(
                f"the entities {_shown(one, text)} and {_shown(other, text)} overlap. Keep one."
            )
    return tuple(spans)


def _word(number: int, word: object) -> str:
    try:
        text = as_text(word)
    except ValueError as error:
        raise ValueError(f"word {number}: {error}") from error
    if not text.strip():
        raise ValueError(f"word {number} is empty. Remove it, and its tag.")
    return text


def _tag(number: int, tag: object) -> str:
    if isinstance(tag, dict):
        raise ValueError("entities are of a text, and here the text is a list of words. Join them.")
    if not isinstance(tag, str) or not (tag == OUTSIDE or tag[:2] in ("B-", "I-")):
        raise ValueError(
            f"tag {number}, {tag!r:.40}, is none: tags are {OUTSIDE!r}, 'B-…' and 'I-…'."
        )
    if tag != OUTSIDE:
        _check_type(tag[2:], f"tag {number}")
    return tag


def _entity(number: int, entity: object, text: str) -> TypedSpan:
    name = f"entity {number}"
    if isinstance(entity, str):
        raise ValueError("tags are of words, and here the text is not a list of words. Split it.")
    if not isinstance(entity, dict):
        raise ValueError(f"{name} is a {type(entity).__name__}. {_FORMS}.")
    for key in ("start", "end", "label"):
        if entity.get(key) is None:
            raise ValueError(f"{name} has no {key}. {_FORMS}.")
    start, end = _place(name, entity, "start"), _place(name, entity, "end")
    if not 0 <= start <= end <= len(text):
        raise ValueError(
            f"{name} stands at {start} to {end}, and the text has the characters 0 to {len(text)}."
        )
    span = trim(text, (start, end))
    if span is None:
        raise ValueError(f"{name}, at {start} to {end}, is {'space' if start < end else 'empty'}.")
    try:
        label = as_text(entity["label"]).strip()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    _check_type(label, name)
    return (*span, label)


def _place(name: str, entity: dict[str, object], key: str) -> int:
    value = entity[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} has the {key} {value!r:.40}, which is no whole number.")
    return value


def _check_type(label: str, name: str) -> None:
    """Fit for tags of it."""
    try:
        check_label(label)
        check_label(f"B-{label}")
    except ValueError as error:
        raise ValueError(f"{name}: {error}.") from error


def _shown(span: TypedSpan, text: str) -> str:
    start, end, label = span
    return f"{text[start:end]!r:.40} ({label}, {start} to {end})"
