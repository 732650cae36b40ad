"""JSON with one meaning: no doubled keys, no NaN, no nesting that exhausts the stack."""

import json
from typing import Any


def strict_json(text: str) -> Any:
    """Parse JSON strictly.

    Raises:
        ValueError: not JSON, a doubled key, NaN or Infinity, or nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"key {key[:80]!a} stands twice")
        content[key] = value
    return content


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# One for all: making a decoder takes longer than reading a short text.
_DECODER = json.JSONDecoder(object_pairs_hook=_distinct_keys, parse_constant=_refuse_constant)
