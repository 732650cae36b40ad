import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from service.http.routes import ROUTES
from tests.contract.support import CODES, OPENAI, Server, find_model

PROBES = ("/livez", "/readyz")  # of bentoml


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from walk(each)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


async def test_the_document_is_openapi_3_1(server: Server) -> None:
    document = server.document
    assert set(document) == {"openapi", "info", "servers", "paths", "components"}
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"] == "Headstock"
    assert document["info"]["version"] == version("headstock")
    for _, _, operation in operations(document):
        assert operation["responses"]
        assert all(each["description"] for each in operation["responses"].values())
        for content in (each.get("content", {}) for each in operation["responses"].values()):
            assert all(set(media) == {"schema"} for media in content.values())


async def test_it_has_every_route_and_nothing_else(server: Server) -> None:
    found = [(method, path) for method, path, _ in operations(server.document)]
    ours = [(route.method, route.path) for route in ROUTES]
    assert sorted(found) == sorted([*ours, *(("GET", path) for path in PROBES)])


async def test_operation_ids_are_unique_and_every_operation_says_what_it_does(
    server: Server,
) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(server.document)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z_]+", each) for each in ids)
    assert all(
        operation["summary"].endswith(".") for _, _, operation in operations(server.document)
    )


async def test_every_reference_leads_somewhere_and_nothing_is_left_over(server: Server) -> None:
    known = {f"#/components/schemas/{name}" for name in server.document["components"]["schemas"]}
    used = {part["$ref"] for part in walk(server.document) if "$ref" in part}
    assert used == known
    assert all(map(find_model, used))


async def test_every_parameter_of_a_path_is_documented(server: Server) -> None:
    for _, path, operation in operations(server.document):
        named = re.findall(r"\{(\w+)\}", path)
        documented = [each for each in operation["parameters"] if each["in"] == "path"]
        assert [each["name"] for each in documented] == named
        assert all(each["required"] and each["schema"]["type"] for each in documented)


async def test_keys_are_asked_for_where_the_table_says_so(server: Server) -> None:
    assert server.document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for route in ROUTES:
        operation = server.document["paths"][route.path][route.method.lower()]
        needed: list[dict[str, list[str]]] | None = None if route.scope is None else [{"key": []}]
        if route.scope == "metrics":  # where it is set so
            needed = [{}, {"key": []}]
        assert operation.get("security") == needed
        assert ("401" in operation["responses"]) == (needed is not None)


async def test_bodies_and_headers_are_documented(server: Server) -> None:
    for route in ROUTES:
        operation = server.document["paths"][route.path][route.method.lower()]
        assert ("requestBody" in operation) == (route.body is not None)
        headers = [each["name"] for each in operation["parameters"] if each["in"] == "header"]
        conditional = ["If-Match"] if route.conditional else []
        binary = ["Inference-Header-Content-Length"] if route.has_binary else []
        assert headers == ["X-Request-Timeout", *conditional, *binary]
        query = [each["name"] for each in operation["parameters"] if each["in"] == "query"]
        assert query == list(route.query)


async def test_what_may_be_left_out_of_a_body_is_not_required(server: Server) -> None:
    request = server.document["components"]["schemas"]["PredictRequest"]
    assert request["required"] == ["inputs"]
    assert request["additionalProperties"] is False


async def test_every_failure_is_a_problem_document(server: Server) -> None:
    for _, path, operation in operations(server.document):
        if path in PROBES:
            continue
        failures = {int(status) for status in operation["responses"] if int(status) >= 400}
        assert failures <= set(CODES)
        assert {500, 503} <= failures
        for status in failures:
            content = operation["responses"][str(status)]["content"]
            media, name = "application/problem+json", "ProblemDocument"
            if path.startswith("/v2"):
                media, name = "application/json", "ErrorDocument"
            elif path.startswith(OPENAI):
                media, name = "application/json", "OpenAiError"
            assert content == {media: {"schema": {"$ref": f"#/components/schemas/{name}"}}}


async def test_a_status_of_several_reasons_is_described_by_none_of_them(server: Server) -> None:
    for _, path, operation in operations(server.document):
        if path not in PROBES:
            assert operation["responses"]["503"]["description"] == "Service Unavailable"


async def test_the_probes_are_documented_though_bentoml_answers_them(server: Server) -> None:
    live, ready = (server.document["paths"][path]["get"] for path in PROBES)
    assert list(live["responses"]) == ["200"]
    assert list(ready["responses"]) == ["200", "503"]
    assert "security" not in live
    assert "security" not in ready
