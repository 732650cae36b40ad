"""The Starlette app: one wrapper round every handler checks the key, maps errors, counts.

It is built with no I/O; `app.state.runtime` is set when the server has started.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route as StarletteRoute

from adapters.errors import NotFound, Overloaded
from service import VERSION
from service.access import authorize
from service.errors import MethodNotAllowed, TimedOut, to_problem
from service.http.call import Call, problem_response
from service.http.docs import docs_routes
from service.http.openapi import build_openapi
from service.http.routes import ROUTES, Route
from service.http.unread import CloseUnread
from service.runtime import Runtime

# Less than the 10 seconds of bentoml, whose answer is no problem document and in no metric.
_DEADLINE_S = 9.0

Endpoint = Callable[[Request], Awaitable[Response]]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def build_http_app() -> Starlette:
    """The app with all routes of the table, `/openapi.json` and `/docs`."""
    document = build_openapi(VERSION)

    async def openapi(_: Request) -> Response:
        return JSONResponse(document)

    async def root(_: Request) -> Response:
        return RedirectResponse("docs")

    app = Starlette(
        routes=[
            *_starlette_routes(),
            StarletteRoute("/openapi.json", openapi, methods=["GET"]),
            *docs_routes(),
            StarletteRoute("/", root, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _unmatched},
        middleware=[Middleware(CloseUnread)],
    )
    # Its redirects name the scheme and host that it sees, which behind a proxy are not the
    # client's: a key could go out in clear text.
    app.router.redirect_slashes = False
    return app


def _starlette_routes() -> Iterator[StarletteRoute]:
    """One a path with all its methods, so that a 405 names every method there is."""
    for path in dict.fromkeys(route.path for route in ROUTES):
        endpoints: dict[str, Endpoint] = {
            route.method: _endpoint(route) for route in ROUTES if route.path == path
        }
        if "GET" in endpoints:
            endpoints["HEAD"] = endpoints["GET"]
        yield StarletteRoute(path, _by_method(endpoints), methods=list(endpoints))


def _by_method(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await endpoints[request.method](request)

    return endpoint


def _endpoint(route: Route) -> Endpoint:
    """The wrapper of one route."""

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        runtime = _runtime(request)
        if runtime is None:
            return problem_response(to_problem(Overloaded("the server is starting")))
        response = await _answer(route, request, runtime)
        metrics = runtime.metrics
        metrics.requests.labels(route.method, route.path, response.status_code).inc()
        metrics.request_seconds.labels(route.method, route.path).observe(
            time.perf_counter() - started
        )
        return response

    return endpoint


async def _answer(route: Route, request: Request, runtime: Runtime) -> Response:
    """The handler's answer, or the reason why there is none, within the time of a request."""
    try:
        async with asyncio.timeout(_DEADLINE_S) as deadline:
            return await route.handler(_call(route, request, runtime))
    except Exception as error:
        if isinstance(error, TimeoutError) and deadline.expired():
            late = f"not done after {_DEADLINE_S:g} seconds; look before you repeat a change"
            return problem_response(to_problem(TimedOut(late)))
        return problem_response(to_problem(error))


def _call(route: Route, request: Request, runtime: Runtime) -> Call:
    """Check the key before anything of the request is read."""
    if route.scope is None:
        return Call(request, runtime, None)
    principal = runtime.keyring.authenticate(request.headers.get("authorization"))
    authorize(principal, request.path_params.get("tenant"), route.scope)
    return Call(request, runtime, principal)


async def _unmatched(request: Request, error: Exception) -> Response:
    """No route has this path, or none with this method."""
    assert isinstance(error, HTTPException), "registered for HTTPException alone"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        problem = to_problem(MethodNotAllowed(f"{request.method} is not one of: {allowed}"))
    else:
        problem = to_problem(NotFound("no such path; /docs lists the API"))
    response = problem_response(problem)
    response.headers.update(error.headers or {})
    runtime = _runtime(request)
    if runtime is not None:
        method = request.method if request.method in _METHODS else "OTHER"
        runtime.metrics.requests.labels(method, "unmatched", problem.status).inc()
    return response


def _runtime(request: Request) -> Runtime | None:
    runtime: Runtime | None = getattr(request.app.state, "runtime", None)
    return runtime
