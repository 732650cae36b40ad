"""Requests made from the published description, good and bad ones, with every kind of key.

No answer may be a failure of the server, or one that the description does not have.
"""

import contextlib
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service import VERSION
from service.http.openapi import build_openapi
from service.http.routes import ROUTES
from tests.integration.server import ADMIN_KEY, Server, running, upload
from tests.support import make_adapter_file

CASES = 5_000  # in all, at least
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)  # as described, and against it
KEYS = ("admin", "tenant", "none")
# What is there, so that not every request ends at the door.
KNOWN = {
    "tenant": "acme",
    "adapter": "intents",
    "model": "acme.intents",
    "id": "acme.intents",
    "version": 1,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, str]]]:
    with running(tmp_path_factory.mktemp("fuzz"), log_level="warning") as (server, digest):
        tenant = server.add_tenant("acme")
        with server.http() as http:
            upload(http, "acme", "intents", make_adapter_file(backbone=digest))
        headers = {"admin": ADMIN_KEY, "tenant": tenant.key}
        yield server, headers


@pytest.mark.timeout(600)
def test_no_request_meets_what_is_not_described(server: tuple[Server, dict[str, str]]) -> None:
    """Each is sent with every key: to make one costs more than to answer it."""
    served, keys = server
    schema = schemathesis.openapi.from_dict(build_openapi(VERSION))
    found = list(schema.get_all_operations())
    operations = [each.ok() for each in found if isinstance(each, Ok)]
    assert len(operations) == len(found) >= len(ROUTES)
    # Somewhat more: what takes next to no input has fewer than are asked for.
    each = round(1.06 * CASES / (len(KEYS) * len(operations) * len(MODES)))
    examples = settings(
        max_examples=each,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    count = 0
    with requests.Session() as session:
        for operation, mode in product(operations, MODES):

            @examples
            @given(case=operation.as_strategy(generation_mode=mode))
            def run(case: Any) -> None:
                nonlocal count
                settle(case, count)
                for kind in KEYS:
                    headers = {"Authorization": f"Bearer {keys[kind]}"} if kind in keys else {}
                    count += 1
                    response = case.call(base_url=served.url, headers=headers, session=session)
                    case.validate_response(response, checks=CHECKS)

            # Where nothing can be said there is nothing against the description.
            with contextlib.suppress(*[Unsatisfiable] * (mode is GenerationMode.NEGATIVE)):
                run()
    assert count >= CASES
    assert served.complaints(0) == []


def settle(case: Any, number: int) -> None:
    """Every other case is about what is there; none gives the server no time."""
    if number % 2 == 0:  # three a case
        for name, value in KNOWN.items():
            if name in (case.path_parameters or {}):
                case.path_parameters[name] = value
    if case.headers is not None:
        case.headers.pop("X-Request-Timeout", None)
