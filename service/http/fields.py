"""Header fields as RFC 9110 reads them: white space is SP and HTAB, some fields are lists."""

import re
from collections.abc import Iterator, Sequence

from adapters.errors import InvalidInput, StaleRevision
from adapters.registry import ExpectedRevision

OWS = " \t"  # 5.6.3; `str.strip()` would take U+00A0 and others for white space, too
# An element of a list of entity tags, or an empty one. Possessive: hostile lines of spaces take
# linear time.
_ELEMENT = re.compile(r'[ \t]*+(?P<tag>(?:W/)?+"[!#-~\x80-\xff]*+"[ \t]*+)?+(?:,|\Z)', re.ASCII)
_REVISION = re.compile(r'"(0|[1-9][0-9]{0,14})"[ \t]*', re.ASCII)


def one_line(name: str, lines: Sequence[str]) -> str | None:
    """The value of a field that stands once; None without it. Raises InvalidInput for several."""
    if not lines:
        return None
    if len(lines) > 1:
        raise InvalidInput(f"the request has {len(lines)} headers {name}; send one")
    return lines[0].strip(OWS)


def parse_if_match(lines: Sequence[str]) -> ExpectedRevision:
    """What the lines of `If-Match` ask of a release: any of the revisions that they name.

    Tags that are weak, or that no release ever had, match nothing (RFC 9110, 13.1.1).

    Raises:
        StaleRevision: there are weak tags, and none that can match.
        InvalidInput: the field is not a list of entity tags, or none is one of a release.
    """
    if not lines:
        return None
    field = ", ".join(lines).strip(OWS)  # several lines are one list: 5.3
    if field == "*":
        return "any"
    tags = list(_tags(field))
    revisions = frozenset(int(found[1]) for tag in tags if (found := _REVISION.fullmatch(tag)))
    if revisions:
        return revisions
    if any(tag.startswith("W/") for tag in tags):
        raise StaleRevision("a weak ETag never matches: send it as the release gave it")
    raise _not_of_a_release()


def _tags(field: str) -> Iterator[str]:
    position = 0
    while position < len(field):
        element = _ELEMENT.match(field, position)
        if element is None:
            raise _not_of_a_release()
        if element["tag"] is not None:
            yield element["tag"]
        position = element.end()


def _not_of_a_release() -> InvalidInput:
    return InvalidInput(
        'If-Match must be ETags as the release gave them, such as "3" or "3", "4", or else *'
    )
