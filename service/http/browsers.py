"""What browsers are told beside an answer: how to read it, who may show it, which pages may ask."""

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RawHeaders = Sequence[tuple[bytes, bytes]]

# Never read as another type than it says; never kept, since some answers hold keys and all are
# somebody's own. Of every request: bytes that need no work.
ANSWER_HEADERS: Final[RawHeaders] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
# Swagger UI draws with data: URLs. It needs nothing inline, so that nothing inline is allowed.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Final[RawHeaders] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
    (b"referrer-policy", b"no-referrer"),
)


def with_headers(app: ASGIApp, added: RawHeaders) -> ASGIApp:
    """`app` with these headers on all of its answers, where they have none of that name."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                names = {name for name, _ in headers}
                headers += (header for header in added if header[0] not in names)
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, sending if scope["type"] == "http" else send)

    return wrapped


class Cors(CORSMiddleware):
    """Starlette's, whose own answers have the headers of all others."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a page may ask for."""
        response = super().preflight_response(request_headers)
        response.raw_headers.extend(ANSWER_HEADERS)
        return response
