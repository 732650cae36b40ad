"""Entities as spans of characters, and as BIO tags of the pieces that a text is cut into."""

from bisect import bisect_right
from collections.abc import Sequence

from adapters.entities import Span, locate
from adapters.manifest import OUTSIDE
from adapters.tasks.tagging import join_entities

TypedSpan = tuple[int, int, str]  # of characters, the second one past the last; and the type
TypedSpans = tuple[TypedSpan, ...]  # of one text: sorted, not overlapping


def to_tags(spans: Sequence[TypedSpan], pieces: Sequence[Span]) -> list[str]:
    """The tag of each piece: "B-x" of the first that overlaps an entity x, "I-x" of the others.

    A piece that overlaps two entities belongs to the earlier. One of no characters is inside where
    it stands within an entity, which would fall apart otherwise, and outside at its edges.
    """
    ends = [end for _, end, _ in spans]
    tags = []
    begun = -1  # the entity that the last piece belonged to
    for first, last in pieces:
        place = bisect_right(ends, first)
        if place < len(spans) and spans[place][0] < last:
            tags.append(("I-" if place == begun else "B-") + spans[place][2])
            begun = place
        else:
            tags.append(OUTSIDE)
    return tags


def to_spans(tags: Sequence[str], pieces: Sequence[Span], text: str) -> list[TypedSpan]:
    """The entities that a server answers for such tags."""
    entities = join_entities(tags, [1.0] * len(tags))
    return [(each.start, each.end, each.label) for each in locate(entities, text, pieces)]
