"""Answers to requests whose body was not read to its end, such as refusals of what is too large.

The server behind this app would go on reading such a body for as long as the client sends it.
"""

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LITTLE_BYTES = 64 * 2**10  # less than this is skipped, and the connection lives on
_MANY_DIGITS = 19
_LINGER_S = 2.0


class CloseUnread:
    """ASGI middleware: answer, take a little more so that the client can read it, and close.

    Closing at once would reset a connection on which the client still sends, and on some systems
    a reset throws away the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not _may_be_much(scope):
            await self._app(scope, receive, send)
            return
        unread = True
        awaits_leave = b"expect" in dict(scope["headers"])  # the client sends no body before it

        async def watching() -> Message:
            nonlocal unread, awaits_leave
            awaits_leave = False
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def closing(message: Message) -> None:
            if unread and message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            elif unread and not awaits_leave and not message.get("more_body", False):
                await send({**message, "more_body": True})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LINGER_S):
                        while unread:
                            await watching()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, watching, closing)


def _may_be_much(scope: Scope) -> bool:
    """Whether the head announces a long body, one of unknown length, or one that may never come.

    Where the client asked for leave to send a body and got an answer instead, it is free to go on
    with its next request: that must not be taken for the body.
    """
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers or b"expect" in headers:
        return True
    # Python refuses to read a number of thousands of digits.
    return not length.isdigit() or len(length) >= _MANY_DIGITS or int(length) > _LITTLE_BYTES
