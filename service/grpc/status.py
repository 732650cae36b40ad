"""Errors as gRPC has them: a status, and its details by the richer error model of Google's APIs.

Source: https://grpc.io/docs/guides/error/#richer-error-model
"""

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from service.errors import Problem

DOMAIN = "headstock"
DETAILS = "grpc-status-details-bin"
_MOST_CHARACTERS = 1000  # of the detail: clients take 8 KB of headers, and it is in them twice


def status_code(problem: Problem) -> grpc.StatusCode:
    """The status of gRPC."""
    return grpc.StatusCode[problem.grpc]


def message(problem: Problem) -> str:
    """What a client is told in words."""
    return problem.detail[:_MOST_CHARACTERS]


def trailers(problem: Problem) -> tuple[tuple[str, bytes], ...]:
    """The details: the stable code as reason, such as NOT_FOUND, and when to try again."""
    number, _ = status_code(problem).value
    status = Status(code=number, message=message(problem))
    reason = problem.code.upper().replace("-", "_")
    status.details.add().Pack(ErrorInfo(reason=reason, domain=DOMAIN))
    if problem.retry_after_s is not None:
        delay = Duration(seconds=problem.retry_after_s)
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return ((DETAILS, status.SerializeToString()),)
