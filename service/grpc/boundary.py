"""The outermost place of calls that are not in the table: whatever is raised becomes a status.

gRPC itself would answer UNKNOWN, with the error's own text.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from adapters.errors import InvalidInput
from service.errors import to_problem
from service.grpc.status import message, status_code, trailers

_Context = grpc.aio.ServicerContext[Any, Any]


@asynccontextmanager
async def error_boundary(context: _Context) -> AsyncIterator[None]:
    """Ends the call with the status of what is raised inside."""
    try:
        yield
    except grpc.aio.AbortError:  # the call has its status already
        raise
    except Exception as error:
        is_unreadable = isinstance(error, DecodeError)
        problem = to_problem(
            InvalidInput("the message is not what the method takes") if is_unreadable else error
        )
        await context.abort(status_code(problem), message(problem), trailers(problem))
