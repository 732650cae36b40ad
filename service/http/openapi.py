"""OpenAPI 3.1 from the route table and the wire models."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import schemas
from service.bounds import MOST_LISTED, USUALLY_LISTED
from service.http.call import TIMEOUT_HEADER
from service.http.oip import HEADER_LENGTH
from service.http.routes import ROUTES, Errors, Route
from service.models import MOST_MODELS
from service.oip.schemas import ErrorDocument

# Bentoml answers these beside our routes, in plain text.
_PROBES = {
    "/livez": ("Tell that the process answers.", {200: "It does"}),
    "/readyz": (
        "Tell whether predictions can be answered.",
        {200: "They can", 503: "Not yet, or not any more"},
    ),
}
_TAGS = (
    ("/predict", "Predictions"),
    ("/embeddings", "Predictions"),
    ("/v1/models", "Predictions"),
    ("/adapters", "Adapters"),
    ("/v1/t", "Tenants"),
)
_BINARY = {"type": "string", "format": "binary"}
# What a query parameter means, and what it may be.
_QUERY: dict[str, tuple[str, dict[str, Any]]] = {
    "activate": (
        "Let the uploaded version answer at once.",
        {"type": "string", "enum": ["true", "false"], "default": "false"},
    ),
    "limit": (
        "How many, at most.",
        {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": USUALLY_LISTED},
    ),
    "after": (
        "Go on after this one: what the page before gave as `next`; of models, its last id.",
        {"type": "string", "minLength": 1, "maxLength": 127},
    ),
}
_ERRORS: dict[Errors, tuple[str, type[BaseModel]]] = {
    "problem": ("application/problem+json", schemas.ProblemDocument),
    "oip": ("application/json", ErrorDocument),
    "openai": ("application/json", schemas.OpenAiError),
}


def build_openapi(version: str) -> dict[str, Any]:
    """The whole document."""
    refs, definitions = _schemas()
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    paths |= {path: {"get": _probe(path)} for path in _PROBES}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headstock",
            "version": version,
            "description": "A model of its own for every tenant, on one shared backbone.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas() -> tuple[dict[type[BaseModel], dict[str, Any]], dict[str, Any]]:
    """References by model, and the definitions that they refer to."""
    models: dict[type[BaseModel], None] = {model: None for _, model in _ERRORS.values()}
    for route in ROUTES:
        for used in (route.body, *route.answers.values()):
            if isinstance(used, type):
                models[used] = None
    found, document = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    refs = {model: found[model, "serialization"] for model in models}
    return refs, document["$defs"]


def _probe(path: str) -> dict[str, Any]:
    summary, answers = _PROBES[path]
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": path.removeprefix("/"),
        "summary": summary,
        "tags": ["Server"],
        "parameters": [],
        "responses": {
            str(status): {"description": description, "content": text}
            for status, description in answers.items()
        },
    }


def _operation(route: Route, refs: dict[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [_tag(route.path)],
        "parameters": _parameters(route),
        "responses": _responses(route, refs),
    }
    if route.scope is not None:
        operation["security"] = [{}, {"key": []}] if route.scope == "metrics" else [{"key": []}]
        operation["description"] = _access(route.scope)
    if isinstance(route.body, type):
        content = {"application/json": {"schema": refs[route.body]}}
        if route.has_binary:
            content["application/octet-stream"] = {"schema": _BINARY}
        operation["requestBody"] = {"required": not route.is_body_optional, "content": content}
    elif route.body is not None:
        content = {"application/octet-stream": {"schema": _BINARY}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _operation_id(route: Route) -> str:
    """The handler's name; what is asked of a model may be asked of its versions, too."""
    is_second = {"model", "version"} <= set(route.parameters)
    return route.handler.__name__ + ("_of_version" if is_second else "")


def _tag(path: str) -> str:
    """The group of the API page that a route stands in."""
    if path.startswith("/v2"):
        return "Open Inference Protocol"
    for part, tag in _TAGS:
        if part in path:
            return tag
    return "Server"


def _access(scope: str) -> str:
    if scope == "any":
        return "Needs a key, with whatever scope."
    if scope == "metrics":
        return "Needs the key of `HEADSTOCK_METRICS_KEY` where that is set, or an admin's."
    return f"Needs a key with the scope `{scope}`" + (
        "." if scope == "admin" else ", or an admin's."
    )


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _parameter_schema(name)}
        for name in route.parameters
    ]
    for name in route.query:
        description, schema = _QUERY[name]
        if name == "limit" and route.errors == "openai":
            schema = {**schema, "maximum": MOST_MODELS, "default": MOST_MODELS}
        parameters.append(
            {"name": name, "in": "query", "description": description, "schema": schema}
        )
    parameters.append(
        {
            "name": TIMEOUT_HEADER,
            "in": "header",
            "description": "Seconds that the caller waits: 504 after them, 503 if in vain.",
            "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 999_999},
        }
    )
    if route.conditional:
        parameters.append({"name": "If-Match", "in": "header", "schema": {"type": "string"}})
    if route.has_binary:
        description = "How many bytes of the body are JSON, where binary tensors follow it."
        size = {"type": "integer", "minimum": 0}
        parameters.append(
            {"name": HEADER_LENGTH, "in": "header", "description": description, "schema": size}
        )
    return parameters


def _parameter_schema(name: str) -> dict[str, Any]:
    if name == "version":
        return {"type": "integer", "minimum": 1}
    return {"type": "string", "maxLength": 127 if name in ("model", "id") else 63}


def _responses(route: Route, refs: dict[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in route.answers.items():
        responses[str(status)] = {"description": "Done"}
        if isinstance(answer, type):
            content: dict[str, Any] = {"application/json": {"schema": refs[answer]}}
            if route.has_binary:
                content["application/octet-stream"] = {"schema": _BINARY}
            responses[str(status)]["content"] = content
        elif answer is not None:
            kind = "text/plain" if answer == "text" else "application/octet-stream"
            responses[str(status)]["content"] = {kind: {"schema": {"type": "string"}}}
    media, model = _ERRORS[route.errors]
    problem = {media: {"schema": refs[model]}}
    for status in sorted(_failures(route)):
        # The status alone: what is behind it, and there may be several, is in the `code`.
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    return responses


def _failures(route: Route) -> set[int]:
    """What a route may refuse with, from its parts."""
    failures = {422, 500, 503, 504, *route.fails}  # 422: X-Request-Timeout must be seconds
    if route.scope is None:
        return failures
    failures.add(401)
    if route.scope != "any":
        failures.add(403)
    if route.parameters:
        failures.add(404)
    if route.body is not None:
        failures |= {408, 413, 415}
    if isinstance(route.body, type):
        failures.add(400)
    if route.conditional:
        failures.add(412)
    return failures
