"""The outermost place of HTTP: whatever is raised inside becomes an answer, at once."""

import logging
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)


class ErrorBoundary:
    """ASGI middleware: answers for an app that raises, or returns, without an answer.

    BentoML would wait for its timeout first, and uvicorn would answer in plain text. Where the
    answer has begun, the error goes on to uvicorn, which logs it and ends the connection.
    """

    def __init__(self, app: ASGIApp, respond: Callable[[Scope, Exception], Response]) -> None:
        self._app, self._respond = app, respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def watching(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watching)
            if not has_begun:
                raise RuntimeError("a request was left without an answer")
        except Exception as error:
            if has_begun:
                raise
            await self._respond(scope, error)(scope, receive, send)
