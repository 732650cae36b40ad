"""One HTTP request as handlers see it: bounded, parsed strictly, with a known principal."""

import asyncio
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from adapters.errors import InvalidInput, StaleRevision, TooLarge
from adapters.registry import ExpectedRevision
from adapters.strict_json import strict_json
from service.aside import aside
from service.bounds import INLINE_BYTES
from service.call import Call
from service.errors import ClientLeft, InvalidJson, Problem
from service.oip.names import parse_version

Model = TypeVar("Model", bound=BaseModel)
_WATCH_AFTER_S = 0.05
TIMEOUT_HEADER = "X-Request-Timeout"
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,9})?", re.ASCII)
_ETAG = re.compile(r'"(\d{1,15})"')
_MOST_COMPLAINTS = 100  # to list more of them than this costs seconds, and nobody reads them


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall(Call):
    """With the request itself and what its path names."""

    request: Request
    parameters: Mapping[str, str]
    is_body_optional: bool

    def path(self, name: str) -> str:
        """A path parameter."""
        return self.parameters[name]

    def number(self, name: str) -> int:
        """A path parameter that is a whole number; others name nothing. Raises NotFound."""
        return parse_version(self.path(name))

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false, false by default. Raises InvalidInput."""
        value = self.request.query_params.get(name, "false")
        if value not in ("true", "false"):
            raise InvalidInput(f"query parameter {name!r} must be true or false")
        return value == "true"

    def whole(self, name: str, most: int) -> int | None:
        """A query parameter from 1 to `most`; None where it is not given. Raises InvalidInput."""
        value = self.request.query_params.get(name)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,19}", value, re.ASCII) or not 1 <= int(value) <= most:
            raise InvalidInput(f"query parameter {name!r} must be a whole number from 1 to {most}")
        return int(value)

    def expected_revision(self) -> ExpectedRevision:
        """What an `If-Match` header asks of the release. Raises InvalidInput, StaleRevision."""
        header = self.request.headers.get("if-match")
        if header is None:
            return None
        if header.strip() == "*":
            return "any"
        if header.strip().startswith("W/"):  # RFC 9110, 13.1.1: the comparison is a strong one
            raise StaleRevision("a weak ETag never matches: send it as the release gave it")
        match = _ETAG.fullmatch(header.strip())
        if match is None:
            raise InvalidInput('If-Match must be an ETag as the release gave it, such as "3"')
        return int(match[1])

    @property
    def announced_bytes(self) -> int:
        """How long the body is by its head; 0 where that is not said."""
        announced = self.request.headers.get("content-length", "0")
        return int(announced) if announced.isdecimal() else 0

    async def json(self, model: type[Model]) -> Model:
        """The body as `model`, with its defaults where the route lets it be left out.

        Raises InvalidJson, InvalidInput, TooLarge.
        """
        body = await self.body(self.runtime.settings.max_body_bytes)
        return await parse(body or b"{}" if self.is_body_optional else body, model)

    @contextmanager
    def while_connected(self) -> Iterator[None]:
        """Gives the request up when the client leaves; for use after the body was read.

        It looks only after a moment: most answers are there by then, and a task for each would
        cost as much as reading the request.
        """
        tasks: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        timer = loop.call_later(
            _WATCH_AFTER_S, lambda: tasks.append(loop.create_task(self._watch()))
        )
        try:
            yield
        finally:
            timer.cancel()
            for task in tasks:
                task.cancel()

    async def _watch(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        self.patience.end(lambda: ClientLeft("the client left before the answer"))

    async def body(self, limit: int) -> bytes:
        """The raw body of at most `limit` bytes; more is refused unread.

        Raises TooLarge, TooSlow (from the request's patience), ClientLeft.
        """
        parts: list[bytes] = []
        size = self.announced_bytes
        if size <= limit:
            size = 0
            try:
                async for part in self.request.stream():
                    size += len(part)
                    if size > limit:
                        break
                    parts.append(part)
            except ClientDisconnect:
                raise ClientLeft("the client left before the end of the body") from None
        if size > limit:
            raise TooLarge(f"the body has more than the {limit} bytes that this route takes")
        self.is_received()
        return b"".join(parts)


def time_given(request: Request) -> float:
    """Seconds that the caller's `X-Request-Timeout` gives, infinite without it; InvalidInput."""
    header = request.headers.get(TIMEOUT_HEADER)
    if header is None:
        return math.inf
    if not _SECONDS.fullmatch(header) or not float(header) > 0:
        raise InvalidInput(f"{TIMEOUT_HEADER} must be seconds above 0, such as 0.5")
    return float(header)


async def parse(body: bytes, model: type[Model]) -> Model:
    """JSON as `model`. Raises InvalidJson, InvalidInput."""
    return await aside(len(body) > INLINE_BYTES, _parse, body, model)


def _parse(body: bytes, model: type[Model]) -> Model:
    try:
        strict_json(body.decode("utf-8"))  # of bytes, it would guess at UTF-16 too
    except ValueError as error:
        raise InvalidJson(f"the body is not JSON: {error}") from error
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from error


def json_response(content: BaseModel, status: int = 200) -> Response:
    """A model as a JSON response."""
    return Response(content.model_dump_json(), status, media_type="application/json")


def problem_response(problem: Problem) -> Response:
    """An RFC 9457 problem document."""
    content = {
        "type": f"urn:headstock:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
    }
    return error_response(problem, content, "application/problem+json")


def openai_error(problem: Problem) -> Response:
    """An error in OpenAI's shape, where its clients look for the message."""
    said = {"message": problem.detail, "type": problem.title, "param": None, "code": problem.code}
    return error_response(problem, {"error": said})


def error_response(
    problem: Problem, content: Mapping[str, Any], media_type: str = "application/json"
) -> Response:
    """An error with the headers that belong to its status."""
    headers = {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(content, problem.status, headers, media_type=media_type)


def _refusal(error: ValidationError) -> InvalidInput:
    """The first complaints with their place, without the input's text."""
    if error.error_count() > _MOST_COMPLAINTS:
        return InvalidInput(f"{error.error_count()} places of the body are not as they must be")
    complaints = error.errors(include_url=False, include_input=False, include_context=False)
    lines = []
    for each in complaints[:5]:
        where = "/".join(json.dumps(part)[:80] for part in each["loc"]).replace('"', "") or "body"
        lines.append(f"{where}: {each['msg']}")
    # pydantic's parser is stricter still: no half of a surrogate pair, less nesting.
    kind = InvalidJson if complaints[0]["type"] == "json_invalid" else InvalidInput
    return kind("; ".join(lines))
