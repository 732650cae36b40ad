"""JSON bodies as models, and back: long ones are measured before they are parsed.

A byte order mark before the JSON, as .NET and PowerShell send one, is left out (RFC 8259, 8.1).
"""

import json
import re
from codecs import BOM_UTF8
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import to_json

from adapters.errors import InvalidInput, TooLarge
from adapters.json_size import bound_elements, count_strings, find_excess, strip_space
from adapters.strict_json import strict_json, strict_json_in_turns
from service.bounds import (
    INLINE_BYTES,
    INLINE_ELEMENTS,
    input_hint,
    json_limits,
    most_inputs,
    too_many_inputs,
)
from service.errors import InvalidJson
from service.settings import Settings

Model = TypeVar("Model", bound=BaseModel)
# Of a body with token ids for texts, as LangChain's OpenAIEmbeddings sends them by default.
_TOKENS = re.compile(rb'"input"\s{0,100}:\s{0,100}\[\s{0,100}\[?\s{0,100}[0-9]')
_INPUTS = re.compile(rb'"inputs?"\s{0,100}:\s{0,100}\[')
_MOST_COMPLAINTS = 100  # to list more of them than this costs seconds, and nobody reads them
_MOST_FIELDS = 1000  # of the outermost object: pydantic takes 5 µs for each that it does not know


def is_short(body: bytes) -> bool:
    """Whether a body is parsed in the time of some switches between threads."""
    # A body has no more elements than bytes: the shortest ones are not looked at.
    return len(body) <= INLINE_ELEMENTS or (
        len(body) <= INLINE_BYTES and bound_elements(body) <= INLINE_ELEMENTS
    )


def parse_short(body: bytes, model: type[Model]) -> Model:
    """A body that `is_short` as a model. Raises InvalidJson, InvalidInput."""
    body = body.removeprefix(BOM_UTF8)
    try:
        content = strict_json(body.decode("utf-8"))  # of bytes, it would guess at UTF-16 too
    except ValueError as error:
        raise InvalidJson(f"the body is not JSON: {error}") from error
    _check_fields(content)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from error


def parse_long(body: bytes, model: type[Model], settings: Settings) -> Model:
    """Any other body as a model.

    Other threads get turns all the while: pydantic's own parser would read it in one go.

    Raises TooLarge, InvalidJson, InvalidInput.
    """
    body = strip_space(body.removeprefix(BOM_UTF8))
    try:
        excess = find_excess(body, json_limits(settings))
        if excess is not None:
            raise _too_large(body, excess, settings)
        content = strict_json_in_turns(body.decode("utf-8"))
    except ValueError as error:
        raise InvalidJson(f"the body is not JSON: {error}") from error
    _check_fields(content)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _refusal(error) from error


def dump_in_turns(content: BaseModel, lists: int) -> str:
    """The JSON of a model as pydantic gives it, with turns for other threads.

    It is put together of the elements of its fields that are lists, and of their elements' fields
    down to so many levels of `lists`.
    """
    if lists == 0:
        return content.model_dump_json()
    if isinstance(content, RootModel):
        return _dump(content.root, lists)
    fields = (f"{json.dumps(name)}:{_dump(value, lists)}" for name, value in content)
    return "{" + ",".join(fields) + "}"


def _dump(value: Any, lists: int) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_dump(each, lists - 1) for each in value) + "]"
    if isinstance(value, BaseModel):
        return dump_in_turns(value, lists)
    return to_json(value).decode()


def _too_large(body: bytes, excess: str, settings: Settings) -> TooLarge:
    """Why a body is not parsed; the number of its inputs, if it has nothing else."""
    inputs = _INPUTS.search(body, 0, INLINE_BYTES)
    count = count_strings(body, inputs.end()) if inputs else None
    if count is not None and count > most_inputs(settings):
        return too_many_inputs(count, settings)
    hint = input_hint(settings)
    if _TOKENS.search(body, 0, INLINE_BYTES):
        hint += "; send texts in place of token ids (LangChain: check_embedding_ctx_length=False)"
    return TooLarge(f"the body's JSON has {excess}; {hint}")


def _check_fields(content: Any) -> None:
    if isinstance(content, dict) and len(content) > _MOST_FIELDS:
        raise InvalidInput(f"the body has {len(content)} fields; no route takes so many")


def _refusal(error: ValidationError) -> InvalidInput:
    """The first complaints with their place, without the input's text."""
    if error.error_count() > _MOST_COMPLAINTS:
        return InvalidInput(f"{error.error_count()} places of the body are not as they must be")
    complaints = error.errors(include_url=False, include_input=False, include_context=False)
    lines = []
    for each in complaints[:5]:
        where = "/".join(_shown(part) for part in each["loc"]) or "body"
        lines.append(f"{where}: {each['msg']}")
    # pydantic's parser is stricter still: no half of a surrogate pair, less nesting.
    kind = InvalidJson if complaints[0]["type"] == "json_invalid" else InvalidInput
    return kind("; ".join(lines))


def _shown(part: int | str) -> str:
    """A part of a place, escaped and cut short."""
    short = part[:80] if isinstance(part, str) else part
    return json.dumps(short)[:80].replace('"', "")
