import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.entities import Span
from training.data.spans import TypedSpan, to_spans, to_tags


@pytest.mark.parametrize(
    ("pieces", "tags"),
    [
        ([(0, 3), (4, 8), (9, 11), (12, 16)], ["B-place", "I-place", "O", "B-place"]),
        # Word pieces, and a token that carries the space before it.
        (
            [(0, 1), (1, 3), (3, 8), (8, 11), (11, 16)],
            ["B-place"] + ["I-place"] * 2 + ["O", "B-place"],
        ),
        # Cut at a max_length.
        ([(0, 3)], ["B-place"]),
        ([(4, 8)], ["B-place"]),
        ([(8, 9)], ["O"]),
        ([], []),
        # One piece of two entities belongs to the earlier; the later begins after it.
        ([(0, 13), (13, 16)], ["B-place", "B-place"]),
        # No characters: within an entity, at its edges.
        ([(0, 3), (3, 3), (4, 8)], ["B-place", "I-place", "I-place"]),
        ([(0, 0), (0, 8), (8, 8), (12, 12)], ["O", "B-place", "O", "O"]),
        # Two tokens of one character.
        ([(12, 13), (12, 13), (13, 16)], ["B-place", "I-place", "I-place"]),
    ],
)
def test_tags_by_hand(pieces: list[Span], tags: list[str]) -> None:
    """ "New York is here": entities at 0 to 8 and at 12 to 16."""
    assert to_tags([(0, 8, "place"), (12, 16, "place")], pieces) == tags


def test_neighbours_are_told_apart() -> None:
    spans: list[TypedSpan] = [(0, 1, "x"), (1, 3, "x"), (3, 4, "y")]
    tags = to_tags(spans, [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert tags == ["B-x", "B-x", "I-x", "B-y"]
    assert to_spans(tags, [(0, 1), (1, 2), (2, 3), (3, 4)], "abcd") == spans


@st.composite
def tagged(draw: st.DrawFn) -> tuple[str, list[Span], list[TypedSpan]]:
    """Words of a text, and entities of whole words of it."""
    words = draw(st.lists(st.text("aé1.", min_size=1, max_size=4), min_size=1, max_size=8))
    gaps = draw(
        st.lists(st.sampled_from(["", " ", "  "]), min_size=len(words), max_size=len(words))
    )
    text, pieces = "", []
    for gap, word in zip(gaps, words, strict=True):
        text += gap
        pieces.append((len(text), len(text) + len(word)))
        text += word
    spans = []
    place = 0
    while place < len(pieces):
        length = draw(st.integers(0, 3))
        if last := pieces[place : place + length]:
            spans.append((pieces[place][0], last[-1][1], draw(st.sampled_from(["x", "y"]))))
        place += max(1, length)
    return text, pieces, spans


@given(tagged())
def test_spans_of_whole_pieces_come_back(case: tuple[str, list[Span], list[TypedSpan]]) -> None:
    text, pieces, spans = case
    assert to_spans(to_tags(spans, pieces), pieces, text) == spans


@given(tagged(), st.data())
def test_pieces_may_be_smaller(
    case: tuple[str, list[Span], list[TypedSpan]], data: st.DataObject
) -> None:
    text, pieces, spans = case
    smaller: list[Span] = []
    for start, end in pieces:
        cut = data.draw(st.integers(start, end))
        smaller += [(start, cut), (cut, end)]
    assert to_spans(to_tags(spans, smaller), smaller, text) == spans
