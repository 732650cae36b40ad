"""Methods of Triton's that are not served: refused with what there is in their place."""

from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc

from service.errors import MethodNotAllowed, to_problem
from service.grpc.methods import INFERENCE
from service.grpc.status import message, status_code, trailers
from service.oip.absent import reason_for_method

_Context = grpc.aio.ServicerContext[Any, Any]


class AbsentMethods(grpc.GenericRpcHandler):
    """Asked after all others. No message is read, and no key is looked at."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """What refuses a call; None leaves it to gRPC, whose refusal says that it knows no such."""
        service, _, method = handler_call_details.method.removeprefix("/").partition("/")
        reason = reason_for_method(method) if service == INFERENCE else None
        if reason is None:
            return None
        problem = to_problem(MethodNotAllowed(reason))

        async def refuse(_: AsyncIterator[bytes], context: _Context) -> NoReturn:
            await context.abort(status_code(problem), message(problem), trailers(problem))

        return grpc.stream_unary_rpc_method_handler(refuse)
