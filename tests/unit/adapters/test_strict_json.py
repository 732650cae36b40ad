"""Both strict readers give the same, and refuse the same."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.strict_json import strict_json, strict_json_in_turns

READERS = (strict_json, strict_json_in_turns)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(DOCUMENTS, st.booleans(), st.sampled_from((None, 1)))
def test_every_document_is_read_alike(document: Any, ascii_only: bool, indent: int | None) -> None:
    try:
        text = json.dumps(document, ensure_ascii=ascii_only, indent=indent, allow_nan=False)
    except ValueError:  # infinite
        return
    for read in READERS:
        assert read(text) == document


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("[1,]", "Expecting value"),
        ('{"a":1,}', "Expecting property name"),
        ("[NaN]", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ('{"a":1,"a":2}', "stands twice"),
        ('["a\nb"]', "Invalid control character"),
        ("[" * 2000 + "]" * 2000, "nested too deeply"),
        ("[%s]" % ("1" * 1001), "1001 digits"),
        ("[%s]" % ("1" * 10_000), "10000 digits"),
        ("[1] [2]", "Extra data"),
    ],
)
def test_what_has_no_one_meaning_is_refused(
    read: Callable[[str], Any], text: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        read(text)


@pytest.mark.parametrize("text", ['["\\ud800"]', '{"\\udc00 x":1}', '[{"a":"\\ud83d"}]'])
def test_half_of_a_surrogate_pair_is_refused_in_turns(text: str) -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        strict_json_in_turns(text)
