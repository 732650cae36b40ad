"""One HTTP request as handlers see it: bounded, parsed strictly, with a known principal."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from adapters.errors import InvalidInput, TooLarge
from adapters.registry import ExpectedRevision
from service.bounds import INLINE_BYTES
from service.call import Call
from service.compression import CODINGS, body_unpacker
from service.errors import ClientLeft, Problem
from service.http.fields import one_line, parse_if_match
from service.http.json_body import Model, dump_in_turns, is_short, parse_long, parse_short
from service.oip.names import parse_version
from service.uploads import ByteBudget

_WATCH_AFTER_S = 0.05
TIMEOUT_HEADER = "X-Request-Timeout"
_MANY_DIGITS = 19
_MOST_QUERY_CHARS = 127  # names are shorter
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,9})?", re.ASCII)


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

    def text(self, name: str) -> str | None:
        """A query parameter as it was sent; None where it is not given. Raises InvalidInput."""
        value = self.request.query_params.get(name)
        if value is not None and len(value) > _MOST_QUERY_CHARS:
            raise InvalidInput(
                f"query parameter {name!r} has more than {_MOST_QUERY_CHARS} characters"
            )
        return value

    def expected_revision(self) -> ExpectedRevision:
        """What an `If-Match` header asks of the release. Raises InvalidInput, StaleRevision."""
        return parse_if_match(self.request.headers.getlist("if-match"))

    @property
    def announced_bytes(self) -> int:
        """How long the body is by its head; 0 where that is not said, or it is compressed."""
        return 0 if self._codings else self._content_length

    @property
    def _codings(self) -> list[str]:
        return self.request.headers.getlist("content-encoding")

    @property
    def _content_length(self) -> int:
        announced = self.request.headers.get("content-length", "0")
        if not announced.isdecimal():
            return 0
        # Python refuses to read a number of thousands of digits.
        return int(announced) if len(announced) < _MANY_DIGITS else 10**_MANY_DIGITS

    async def json(self, model: type[Model], charged: str | None = None) -> Model:
        """The body as `model`, with its defaults where the route lets it be left out.

        `charged` is the tenant whose quota the request counts against, as in `metered_body`.

        Raises InvalidJson, InvalidInput, TooLarge, RateLimited.
        """
        body = await self.metered_body(charged)
        return await self.parse(body or b"{}" if self.is_body_optional else body, model)

    async def metered_body(self, charged: str | None) -> bytes:
        """The body, for which a tenant's quota is charged before anything is made of it.

        None: of a request that counts against no quota, or whose body has yet to say whose.

        Raises TooLarge, RateLimited.
        """
        charging = self.runtime.charging
        if charged is not None:
            charging.check_request(charged)  # a body that would be refused is not read
        body = await self.body(self.runtime.settings.max_body_bytes)
        if charged is not None:
            charging.take_request(charged)
        return body

    async def parse(self, body: bytes, model: type[Model]) -> Model:
        """JSON as `model`. Raises InvalidJson, InvalidInput, TooLarge."""
        if is_short(body):
            return parse_short(body, model)
        return await self.runtime.parsing.run(True, parse_long, body, model, self.runtime.settings)

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

    async def body(
        self,
        limit: int,
        budget: ByteBudget | None = None,
        check_size: Callable[[int], None] | None = None,
    ) -> bytes:
        """The body, unpacked, of at most `limit` bytes; more is refused unread.

        Its bytes are lent of a budget, that of JSON where none is given, before they are read:
        those that are announced at once. `check_size` may refuse what has come so far.

        Raises:
            TooLarge, Overloaded, ClientLeft: as they say.
            TooSlow: from the request's patience.
            UnsupportedCoding, InvalidInput: it is compressed, and cannot be unpacked.
        """
        budget = budget or self.runtime.budgets.bodies
        covered = max(INLINE_BYTES, self.announced_bytes)  # a short body is lent for nothing
        _check_length(self._content_length, limit)
        if self.announced_bytes > INLINE_BYTES:
            self.account.cover(budget, self.announced_bytes)
        size, first, joined = 0, b"", BytesIO()
        try:
            async for part in self._parts(limit):
                size += len(part)
                _check_length(size, limit)
                if check_size is not None:
                    check_size(size)
                if size > covered:
                    self.account.cover(budget, size)
                if size == len(part):
                    first = part
                elif part:  # in a list of parts and then as a whole, it would be there twice
                    joined.write(b"" if joined.tell() else first)
                    joined.write(part)
        except ClientDisconnect:
            raise ClientLeft("the client left before the end of the body") from None
        self.is_received()
        return joined.getvalue() or first

    async def _parts(self, limit: int) -> AsyncIterator[bytes]:
        """The body's parts as they come, unpacked; at most `limit` bytes of them before that."""
        unpacker, packed = body_unpacker(self._codings), 0
        async for part in self.request.stream():
            if unpacker is None:
                yield part
                continue
            packed += len(part)
            _check_length(packed, limit)
            for piece in unpacker.feed(part):
                yield piece
                await asyncio.sleep(0)  # others have a turn
        if unpacker is not None:
            unpacker.end()


def _check_length(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"the body has more than the {limit} bytes that this route takes")


def time_given(request: Request) -> float:
    """Seconds that the caller's `X-Request-Timeout` gives, infinite without it; InvalidInput."""
    header = one_line(TIMEOUT_HEADER, request.headers.getlist(TIMEOUT_HEADER))
    if header is None:
        return math.inf
    if not _SECONDS.fullmatch(header) or not float(header) > 0:
        raise InvalidInput(f"{TIMEOUT_HEADER} must be seconds above 0, such as 0.5")
    return float(header)


def json_response(content: BaseModel, status: int = 200) -> Response:
    """A model as a JSON response."""
    return Response(content.model_dump_json(), status, media_type="application/json")


def long_json_response(content: BaseModel, lists: int = 1) -> Response:
    """The same of a model with long lists, or with `lists` levels of them."""
    return Response(dump_in_turns(content, lists), media_type="application/json")


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
    if problem.status == 415:
        headers["Accept-Encoding"] = CODINGS  # RFC 9110, 12.5.3
    return JSONResponse(content, problem.status, headers, media_type=media_type)
