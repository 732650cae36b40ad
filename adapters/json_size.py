"""Measures a JSON document from its bytes, before a parser makes objects of them.

A parser makes 50 to 100 bytes of memory, and seconds of work, of documents that are all `[1],`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_SLICE_BYTES = 64 * 2**10  # looked at in one go, below a millisecond: other threads go on between
_COUNTED_BYTES = 2 * 2**20
_MOST_DEPTH = 1000  # at the end of a slice
_SPACE = b" \t\r\n"
_STRUCTURE = b"[{,:"  # one of these stands before every value and key but the outermost


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """The most of what a document may hold.

    `elements` are its values and keys, `text_bytes` those of one string with its escapes, and
    `other_bytes` those of everything outside of strings.
    """

    elements: int
    text_bytes: int
    other_bytes: int


def bound_elements(content: bytes) -> int:
    """No fewer elements than a document has; punctuation inside of strings counts as well."""
    return 1 + _count(content, _STRUCTURE)


def find_excess(content: bytes, limits: JsonLimits) -> str | None:
    """Say what a document has too much of; None if it is within its limits.

    Of what is not JSON, the part before the first error counts: a parser makes no more of it.

    Raises:
        ValueError: it is nested more deeply than any parser follows.
    """
    elements, other_bytes, depth = 1, 0, 0
    for others, longest in _outside_strings(content):
        elements += _count(others, _STRUCTURE)
        other_bytes += len(others)
        depth += _count(others, b"[{") - _count(others, b"]}")
        if depth > _MOST_DEPTH:
            raise ValueError("JSON is nested too deeply")
        if elements > limits.elements:
            return f"more than {limits.elements} values and keys"
        if longest > limits.text_bytes:
            return f"a string of more than {limits.text_bytes} bytes"
        if other_bytes > limits.other_bytes:
            return f"more than {limits.other_bytes} bytes of numbers, white space and punctuation"
    return None


def count_strings(content: bytes, start: int) -> int | None:
    """Count the strings of the list whose first one follows `start`.

    None: it has other things, or is so long that to count them takes long.
    """
    commas, content = 0, content[: start + _COUNTED_BYTES]
    for others, _ in _outside_strings(content, start):
        rest = others.lstrip(b"," + _SPACE)
        commas += others[: len(others) - len(rest)].count(b",")
        if rest:
            return commas + 1 if rest.startswith(b"]") else None
    return None


def strip_space(content: bytes) -> bytes:
    """The document without the space around it, in slices: a parser skips it in one go."""
    start, end = 0, len(content)
    while start < end and not content[start : start + _SLICE_BYTES].strip(_SPACE):
        start += _SLICE_BYTES
    while start < end and not content[max(start, end - _SLICE_BYTES) : end].strip(_SPACE):
        end -= _SLICE_BYTES
    return content[start:end].strip(_SPACE)


def _count(content: bytes, characters: bytes) -> int:
    return len(content) - len(content.translate(None, characters))


def _outside_strings(content: bytes, start: int = 0) -> Iterator[tuple[bytes, int]]:
    """For each slice what is outside of strings, and how long the longest string is by its end."""
    length, in_string = 0, False  # of the string that the slice before has begun
    for piece in _slices(content, start):
        parts = _mask_escapes(piece).split(b'"')
        evens, odds = parts[0::2], parts[1::2]
        strings, others = (evens, odds) if in_string else (odds, evens)
        if in_string:
            length += len(parts[0])
        longest = max(length, max(map(len, strings), default=0))
        in_string ^= len(parts) % 2 == 0
        if not in_string:
            length = 0
        elif len(parts) > 1:
            length = len(parts[-1])
        yield b"".join(others), longest


def _slices(content: bytes, start: int = 0) -> Iterator[bytes]:
    """Pieces of the document, none of which ends within an escape."""
    while start < len(content):
        piece = content[start : start + _SLICE_BYTES]
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        if backslashes % 2:
            piece = content[start : start + _SLICE_BYTES + 1]
        yield piece
        start += len(piece)


def _mask_escapes(piece: bytes) -> bytes:
    """The same length, and every quote that is left begins or ends a string."""
    return piece.replace(rb"\\", b"__").replace(rb"\"", b"__")
