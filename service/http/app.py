"""The HTTP app: one wrapper round every handler checks the key, maps errors, counts.

It is built with no I/O; `runtime` is set when the server has started.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.errors import NotFound, Overloaded
from service import VERSION
from service.access import authorize
from service.ask import loggable
from service.errors import MethodNotAllowed, Problem, to_problem
from service.http.call import TIMEOUT_HEADER, HttpCall, openai_error, problem_response, time_given
from service.http.docs import docs_routes
from service.http.oip import oip_error
from service.http.openapi import build_openapi
from service.http.paths import Paths
from service.http.routes import ROUTES, Errors, Route
from service.http.unread import CloseUnread
from service.log import log_request, request_id
from service.oip.names import ModelName
from service.patience import BODY_S, REQUEST_S, Patience, late, slow
from service.runtime import Runtime

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

    def __init__(self, cors_origins: Sequence[str] = ()) -> None:
        self.runtime: Runtime | None = None
        self._paths: Paths[Endpoint] = Paths()
        for route in ROUTES:
            endpoint = _endpoint(route)
            self._paths.add(route.path, route.method, endpoint)
            if route.method == "GET":
                self._paths.add(route.path, "HEAD", endpoint)
        self._pages = self._build_pages()
        self._app: ASGIApp = CloseUnread(self._answer)
        if cors_origins:
            self._app = CORSMiddleware(
                self._app,
                allow_origins=cors_origins,
                allow_methods=sorted({route.method for route in ROUTES}),
                allow_headers=[
                    "Authorization",
                    "Content-Type",
                    "If-Match",
                    "traceparent",
                    "X-Request-Id",
                    TIMEOUT_HEADER,
                ],
                expose_headers=["ETag", "Retry-After", "X-Request-Id"],
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoints, values = self._paths.find(scope["path"])
        if not endpoints:
            await self._pages(scope, receive, send)
            return
        request = Request(scope, receive, send)
        endpoint = endpoints.get(scope["method"])
        if endpoint is None:
            response = self._refuse_method(request, ", ".join(endpoints))
        elif self.runtime is None:
            refusal = to_problem(Overloaded("the server is starting"))
            response = _responder(scope["path"])(refusal)
        else:
            response = await endpoint(request, values, self.runtime)
        await response(scope, receive, send)

    def _build_pages(self) -> Starlette:
        """What is for people, and the answer to paths that nobody knows."""
        document = _openapi()

        async def openapi(_: Request) -> Response:
            return Response(document, media_type="application/json")

        async def root(_: Request) -> Response:
            return RedirectResponse("docs")

        async def unmatched(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException), "registered for HTTPException alone"
            if error.status_code == 405:
                return self._refuse_method(request, (error.headers or {}).get("Allow", ""))
            return self._refuse(request, NotFound("no such path; /docs lists the API"))

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

    def _refuse(self, request: Request, error: MethodNotAllowed | NotFound) -> Response:
        """No route has this path, or none with this method."""
        started, problem = time.perf_counter(), to_problem(error)
        response = _responder(request.url.path)(problem)
        if self.runtime is not None:
            method = request.method if request.method in _METHODS else "OTHER"
            facts: dict[str, object] = {"code": problem.code}
            _tell(request, response, self.runtime, (method, "unmatched"), started, facts)
        return response


@cache
def _openapi() -> bytes:
    """Made once in a process: it takes a tenth of a second."""
    return bytes(JSONResponse(build_openapi(VERSION)).body)


def _responder(path: str) -> Callable[[Problem], Response]:
    """How errors are said on a path that no route need have."""
    if path == "/v1/embeddings":
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
    runtime.metrics.count_request(method, path, status, seconds)
    own_id = request_id(request.headers.get("x-request-id"))
    response.headers["X-Request-Id"] = own_id
    traceparent = request.headers.get("traceparent")
    told = {"request_id": own_id, "method": method, "route": path, "status": status, **facts}
    runtime.tracing.record(f"{method} {path}", traceparent, seconds, status >= 500, told)
    log_request("http", traceparent, seconds, told)


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
    principal, authorization = None, request.headers.get("authorization")
    if route.scope == "metrics":
        principal = runtime.keyring.authenticate_scraper(authorization)
    elif route.scope is not None:
        principal = runtime.keyring.authenticate(authorization)
    if principal is not None and route.scope is not None:
        if "model" in parameters:
            model = ModelName.parse(parameters["model"])
            parameters = {**parameters, **model._asdict()}
        facts["key"] = principal.key_id
        authorize(principal, parameters.get("tenant"), route.scope)
        facts |= loggable(parameters.get("tenant"), parameters.get("adapter"))
    given_s = time_given(request)
    all_s, too_late = min(given_s, REQUEST_S), late(given_s)
    # `Call.body` goes over from the one to the other.
    first = (BODY_S, slow) if route.body is not None and all_s > BODY_S else (all_s, too_late)
    async with Patience(*first) as patience:
        deadline = started + all_s
        call = HttpCall(
            runtime=runtime,
            principal=principal,
            patience=patience,
            deadline=deadline,
            late=too_late,
            facts=facts,
            request=request,
            parameters=parameters,
            is_body_optional=route.is_body_optional,
        )
        return await route.handler(call)
