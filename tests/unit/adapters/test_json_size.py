"""What a JSON document holds is found from its bytes, whatever its strings hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.json_size import (
    JsonLimits,
    bound_elements,
    count_strings,
    find_excess,
    strip_space,
)

LIMITS = JsonLimits(elements=1000, text_bytes=200_000, other_bytes=100_000)
NOTHING = JsonLimits(elements=0, text_bytes=10**9, other_bytes=10**9)
MANY = 100_000
AWKWARD = ("[{,:", '"', "\\", '\\"', '\\\\"', "é", "🙂", "\n", "a" * 70_000, '\\"' * 40_000)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(AWKWARD) | st.text(max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
)


def count(document: Any) -> int:
    """Its values and keys."""
    if isinstance(document, dict):
        return 1 + len(document) + sum(map(count, document.values()))
    return 1 + sum(map(count, document)) if isinstance(document, list) else 1


def limited(elements: int) -> JsonLimits:
    return JsonLimits(elements, NOTHING.text_bytes, NOTHING.other_bytes)


@given(DOCUMENTS, st.booleans(), st.sampled_from((None, 1)))
def test_elements_are_counted_and_punctuation_in_strings_is_not(
    document: Any, ascii_only: bool, indent: int | None
) -> None:
    content = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    # An empty list or object counts as if it had an element.
    most = count(document) + content.count(b"[]") + content.count(b"{}")
    assert find_excess(content, limited(2 * most)) is None
    assert bound_elements(content) >= count(document)
    excess = find_excess(content, limited(count(document) - 1))
    assert excess == f"more than {count(document) - 1} values and keys"


@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.parametrize("offset", range(65_530, 65_542))
def test_a_slice_may_end_anywhere(text: str, offset: int) -> None:
    content = json.dumps(["x" * offset, text, 1], ensure_ascii=False).encode()
    assert find_excess(content, limited(4)) is None
    assert find_excess(content, limited(3)) is not None
    longest = max(offset, len(json.dumps(text, ensure_ascii=False).encode()) - 2)
    assert find_excess(content, JsonLimits(9, longest, 99)) is None
    excess = find_excess(content, JsonLimits(9, longest - 1, 99))
    assert excess == f"a string of more than {longest - 1} bytes"


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b"1," * MANY,
        b"[" + b"[]," * MANY,
        b"[" + b'"",' * MANY,
        b"[" + b'{"a":1},' * MANY,
        b"{" + b'"a":1,' * MANY,
        b"[" * 900 + b"1," * MANY,
        b'"' * MANY + b"[1]," * MANY,
        b"[" + b"1," * MANY + b"\xff\\",
    ],
)
def test_many_elements_are_refused_whatever_follows_them(content: bytes) -> None:
    assert find_excess(content, LIMITS) == "more than 1000 values and keys"


def test_numbers_and_space_are_bounded() -> None:
    for content in (b"[" + b"1" * MANY, b"[1" + b" " * MANY + b"]", b"1." + b"0" * MANY):
        assert find_excess(content, LIMITS) == (
            "more than 100000 bytes of numbers, white space and punctuation"
        )


@pytest.mark.parametrize("content", [b"[" * MANY, b'{"a":' * MANY, b'["",' * MANY])
def test_nesting_that_no_parser_follows_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        find_excess(content, LIMITS)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'"a","b"]}', 2),
        (b'"a" ,\n"[,]" , "\\"]"\t], "top_k": 1', 3),
        (b'"' + b"x" * MANY + b'","b"]', 2),
        (b'"",' * MANY + b'""]', MANY + 1),
        (b'"a",1]', None),
        (b'["a"]]', None),
        (b'"a","b"', None),
        (b"", None),
    ],
)
def test_a_list_of_strings_alone_is_counted(content: bytes, expected: int | None) -> None:
    assert count_strings(b"xxx" + content, 3) == expected


@pytest.mark.parametrize("before", [0, 1, 65_536, 200_000])
@pytest.mark.parametrize("after", [0, 1, 65_536, 200_000])
@pytest.mark.parametrize("content", [b"", b"{}", b'[" "]', b"\x0c{}\x0b"])
def test_space_around_is_taken_away(content: bytes, before: int, after: int) -> None:
    assert strip_space(b"\n" * before + content + b" \t" * after) == content
