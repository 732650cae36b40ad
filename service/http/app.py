"""The HTTP app: one wrapper round every handler checks the key, maps errors, counts.

It is built with no I/O; `runtime` is set when the server has started.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.errors import NotFound, Overloaded
from service import VERSION
from service.access import authorize, one_authorization
from service.ask import loggable
from service.attempt import attempt
from service.errors import MethodNotAllowed, Problem, to_problem
from service.http.boundary import ErrorBoundary
from service.http.browsers import ANSWER_HEADERS, PAGE_HEADERS, Cors, with_headers
from service.http.call import TIMEOUT_HEADER, HttpCall, openai_error, problem_response, time_given
from service.http.docs import docs_routes
from service.http.oip import HEADER_LENGTH, oip_error
from service.http.openapi import build_openapi
from service.http.paths import Paths, sent_path
from service.http.prefix import HEADER, public_prefix
from service.http.routes import NO_PARAMETERS, ROUTES, Errors, Route
from service.http.scope import note_authenticated
from service.http.unread import CloseUnread
from service.log import log_request, request_id
from service.oip.absent import reason_for_path
from service.oip.names import ModelName
from service.patience import Patience, late, slow
from service.runtime import Runtime
from service.uploads import Account

_RESPONDERS: Mapping[Errors, Callable[[Problem], Response]] = {
    "problem": problem_response,
    "oip": oip_error,
    "openai": openai_error,
}
Endpoint = Callable[[Request, Sequence[str], Runtime], Awaitable[Response]]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpApp:
    """All routes of the table, `/openapi.json` and `/docs`, as an ASGI app.

    The table's routes do not pass through Starlette's router and middlewares: these cost as much
    as all the rest of a call.
    """

    def __init__(self, cors_origins: Sequence[str] = (), root_path: str = "") -> None:
        self._root_path = root_path
        self.runtime: Runtime | None = None
        self._paths: Paths[Endpoint] = Paths(NO_PARAMETERS)
        for route in ROUTES:
            endpoint = _endpoint(route)
            self._paths.add(route.path, route.method, endpoint)
            if route.method == "GET":
                self._paths.add(route.path, "HEAD", endpoint)
        self._pages = with_headers(self._build_pages(), PAGE_HEADERS)
        self._app: ASGIApp = ErrorBoundary(CloseUnread(self._answer), self.fail)
        if cors_origins:
            cors = Cors(
                self._app,
                allow_origins=cors_origins,
                allow_methods=sorted({route.method for route in ROUTES}),
                allow_headers=[
                    "Authorization",
                    "Content-Encoding",
                    "Content-Type",
                    "If-Match",
                    "traceparent",
                    "X-Request-Id",
                    TIMEOUT_HEADER,
                    HEADER_LENGTH,
                ],
                expose_headers=["Allow", "ETag", "Retry-After", "X-Request-Id", HEADER_LENGTH],
            )
            self._app = ErrorBoundary(cors, self.fail)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        await self._app(scope, receive, send)

    def fail(self, scope: Scope, error: Exception) -> Response:
        """The answer to a request that failed outside its route."""
        response = self._refuse(Request(scope), error)
        response.raw_headers.extend(ANSWER_HEADERS)
        return response

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = sent_path(scope)
        endpoints, values = self._paths.find(path)
        if not endpoints and "%" not in path:  # no page has another spelling
            await self._pages(scope, receive, send)
            return
        request = Request(scope, receive, send)
        endpoint = endpoints.get(scope["method"])
        if not endpoints:
            response = self._refuse(request, _unknown_path(path))
        elif endpoint is None:
            response = self._refuse_method(request, ", ".join(endpoints))
        elif self.runtime is None:
            refusal = to_problem(Overloaded("the server is starting"))
            response = _responder(path)(refusal)
        else:
            response = await endpoint(request, values, self.runtime)
        response.raw_headers.extend(ANSWER_HEADERS)
        await response(scope, receive, send)

    def _build_pages(self) -> Starlette:
        """What is for people, and the answer to paths that nobody knows."""
        _openapi()  # not while somebody waits
        by_prefix = {"Vary": HEADER}

        async def openapi(request: Request) -> Response:
            document = _openapi_under(public_prefix(request.scope, self._root_path))
            return Response(document, media_type="application/json", headers=by_prefix)

        async def root(request: Request) -> Response:
            prefix = public_prefix(request.scope, self._root_path)
            return RedirectResponse(f"{prefix}/docs" if prefix else "docs", headers=by_prefix)

        async def unmatched(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException), "registered for HTTPException alone"
            if error.status_code == 405:
                return self._refuse_method(request, (error.headers or {}).get("Allow", ""))
            return self._refuse(request, _unknown_path(sent_path(request.scope)))

        pages = Starlette(
            routes=[
                StarletteRoute("/openapi.json", openapi, methods=["GET"]),
                *docs_routes(),
                StarletteRoute("/", root, methods=["GET"]),
            ],
            exception_handlers={HTTPException: unmatched},
        )
        # Its redirects name the scheme and host that it sees, which behind a proxy are not the
        # client's: a key could go out in clear text.
        pages.router.redirect_slashes = False
        return pages

    def _refuse_method(self, request: Request, allowed: str) -> Response:
        refusal = MethodNotAllowed(f"{request.method} is not one of: {allowed}")
        response = self._refuse(request, refusal)
        response.headers["Allow"] = allowed
        return response

    def _refuse(self, request: Request, error: Exception) -> Response:
        """The answer where no route gives one."""
        started, problem = time.perf_counter(), to_problem(error)
        response = _responder(sent_path(request.scope))(problem)
        if self.runtime is not None:
            method = request.method if request.method in _METHODS else "OTHER"
            facts: dict[str, object] = {"code": problem.code}
            _tell(request, response, self.runtime, (method, "unmatched"), started, facts)
        return response


@cache
def _openapi() -> bytes:
    """Made once in a process: it takes a tenth of a second."""
    return bytes(JSONResponse(build_openapi(VERSION)).body)


def _openapi_under(prefix: str) -> bytes:
    """The document with the server's place, which by itself is where the document was found."""
    servers = json.dumps([{"url": prefix or "."}]).encode()
    return b'{"servers":' + servers + b"," + _openapi().removeprefix(b"{")


def _unknown_path(path: str) -> NotFound:
    return NotFound(reason_for_path(path) or "no such path; /docs lists the API")


def _responder(path: str) -> Callable[[Problem], Response]:
    """How errors are said on a path that no route need have."""
    if path in ("/v1/embeddings", "/v1/models") or path.startswith("/v1/models/"):
        return openai_error
    return oip_error if path == "/v2" or path.startswith("/v2/") else problem_response


def _tell(
    request: Request,
    response: Response,
    runtime: Runtime,
    route: tuple[str, str],
    started: float,
    facts: Mapping[str, object],
) -> None:
    """Metrics, span and log of one request, by method and template; its id goes into the answer."""
    (method, path), status = route, response.status_code
    seconds = time.perf_counter() - started
    own_id = request_id(request.headers.get("x-request-id"))
    response.headers["X-Request-Id"] = own_id
    traceparent = request.headers.get("traceparent")
    told = {"request_id": own_id, "method": method, "route": path, "status": status, **facts}
    attempt(runtime.metrics.count_request, method, path, status, seconds)
    name, has_failed = f"{method} {path}", status >= 500
    attempt(runtime.tracing.record, name, traceparent, seconds, has_failed, told)
    attempt(log_request, "http", traceparent, seconds, told)


def _endpoint(route: Route) -> Endpoint:
    """The wrapper of one route."""
    names, respond = route.parameters, _RESPONDERS[route.errors]

    async def endpoint(request: Request, values: Sequence[str], runtime: Runtime) -> Response:
        started, facts = time.perf_counter(), dict[str, object]()
        parameters = dict(zip(names, values, strict=True))
        try:
            response = await _answer(route, request, parameters, runtime, started, facts)
        except Exception as error:
            problem = to_problem(error)
            facts["code"] = problem.code
            response = respond(problem)
        _tell(request, response, runtime, (route.method, route.path), started, facts)
        return response

    return endpoint


async def _answer(
    route: Route,
    request: Request,
    parameters: Mapping[str, str],
    runtime: Runtime,
    started: float,
    facts: dict[str, object],
) -> Response:
    """The handler's answer, within the time of a request. The key is checked before all else."""
    principal, keyring = None, runtime.keyring
    if route.scope is not None:
        authorization = one_authorization(request.headers.getlist("authorization"))
        is_open = route.scope == "metrics"
        check = keyring.authenticate_scraper if is_open else keyring.authenticate
        principal = check(authorization)
    if principal is not None and route.scope is not None:
        note_authenticated(request.scope)
        if "model" in parameters:
            model = ModelName.parse(parameters["model"])
            parameters = {**parameters, **model._asdict()}
        facts["key"] = principal.key_id
        authorize(principal, parameters.get("tenant"), route.scope)
        facts |= loggable(parameters.get("tenant"), parameters.get("adapter"))
    given_s = time_given(request)
    request_s, body_s = runtime.settings.request_s, runtime.settings.body_s
    all_s, too_late = min(given_s, request_s), late(given_s, request_s)
    # `Call.body` goes over from the one to the other.
    awaits_body = route.body is not None and all_s > body_s
    first = (body_s, slow(body_s)) if awaits_body else (all_s, too_late)
    async with Patience(*first) as patience:
        deadline = started + all_s
        call = HttpCall(
            runtime=runtime,
            principal=principal,
            patience=patience,
            deadline=deadline,
            late=too_late,
            account=Account(principal),
            facts=facts,
            request=request,
            parameters=parameters,
            is_body_optional=route.is_body_optional,
        )
        with call.account:
            return await route.handler(call)
