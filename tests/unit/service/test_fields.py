import time

import pytest

from adapters.errors import InvalidInput, StaleRevision
from adapters.registry import ExpectedRevision
from service.http.fields import one_line, parse_if_match


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        (["*"], "any"),
        ([" *\t"], "any"),
        (['"3"'], frozenset({3})),
        (['"3", "4"'], frozenset({3, 4})),
        (['"3","4"\t, "5"'], frozenset({3, 4, 5})),
        (['"3"', '"4"'], frozenset({3, 4})),
        ([', "3",, ,'], frozenset({3})),
        (['W/"3", "4"'], frozenset({4})),
        (['"3", "a,4", "", "é"'], frozenset({3})),
        (['"0", "04"'], frozenset({0})),
    ],
)
def test_if_match_is_a_list_of_tags(lines: list[str], expected: ExpectedRevision) -> None:
    assert parse_if_match(lines) == expected


@pytest.mark.parametrize(
    "lines",
    [
        *([text] for text in ("", ",", "3", '"3', '3"', '"3" "4"', '"3"; "4"', '*, "3"', '"3", *')),
        *([text] for text in ('"one"', '"03"', '"-1"', 'w/"3"', '"3\xa0"', '\xa0"3"', '"3"\xa0')),
        ["*", "*"],
        ['"³"'],
        ['"' + "9" * 40 + '"'],
    ],
)
def test_what_names_no_revision_is_refused(lines: list[str]) -> None:
    with pytest.raises(InvalidInput, match="If-Match"):
        parse_if_match(lines)


@pytest.mark.parametrize("text", ['W/"3"', 'W/"3", "one"', 'W/"3", W/"4"'])
def test_weak_tags_alone_match_nothing(text: str) -> None:
    with pytest.raises(StaleRevision):
        parse_if_match([text])


@pytest.mark.parametrize("text", [" " * 32_000 + "x", '"1",' * 8_000 + "x", "," * 32_000 + "x"])
def test_hostile_lists_take_linear_time(text: str) -> None:
    started = time.process_time()
    with pytest.raises(InvalidInput):
        parse_if_match([text])
    assert time.process_time() - started < 0.5


def test_a_field_that_stands_once_is_refused_twice() -> None:
    assert one_line("X", []) is None
    assert one_line("X", ["\t0.5 "]) == "0.5"
    assert one_line("X", ["0.5\xa0"]) == "0.5\xa0"
    with pytest.raises(InvalidInput, match="2 headers X"):
        one_line("X", ["1", "1"])
