"""JSON with one meaning: no doubled keys, no NaN, no nesting that exhausts the stack."""

import json
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from json.scanner import py_make_scanner  # type: ignore[attr-defined]  # the same
from typing import Any

_MOST_DIGITS = 1000  # of a whole number: reading takes time by the square of their number


def strict_json(text: str) -> Any:
    """Parse JSON strictly.

    Raises:
        ValueError: not JSON, a doubled key, NaN or Infinity, or nested too deeply.
    """
    return _decode(_DECODER, text)


def strict_json_in_turns(text: str) -> Any:
    """Parse JSON strictly, with turns for other threads between its strings; for long documents.

    Raises:
        ValueError: as `strict_json`; also for half of a surrogate pair, which UTF-8 cannot hold.
    """
    return _decode(_DECODER_IN_TURNS, text)


def _decode(decoder: json.JSONDecoder, text: str) -> Any:
    try:
        return decoder.decode(text)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"key {key[:80]!a} stands twice")
        content[key] = value
    return content


def _distinct_whole_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, _ in pairs:
        _check_whole(key)
    return _distinct_keys(pairs)


def _whole_string(text: str, start: int, strict: bool) -> tuple[str, int]:
    value: str
    value, end = scanstring(text, start, strict)
    _check_whole(value)
    return value, end


def _check_whole(text: str) -> None:
    """Raise ValueError unless a text can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a string has a lone surrogate at character {error.start}") from None


def _short_int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a whole number has {len(digits)} digits; at most {_MOST_DIGITS}")
    return int(digits)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# One for all: making a decoder takes longer than reading a short text.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_distinct_keys, parse_int=_short_int, parse_constant=_refuse_constant
)
# The standard library's scanner in C reads a whole document without letting another thread run;
# the one in Python calls C for each string.
_DECODER_IN_TURNS: Any = json.JSONDecoder(
    object_pairs_hook=_distinct_whole_keys, parse_int=_short_int, parse_constant=_refuse_constant
)
_DECODER_IN_TURNS.parse_string = _whole_string
_DECODER_IN_TURNS.scan_once = py_make_scanner(_DECODER_IN_TURNS)
