"""A whole server without a port. Every answer is checked against the published API."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, SecretStr
from starlette.types import Scope

from adapters.adapter import read_adapter
from adapters.registry import Registry
from backbone import Backbone
from service import schemas
from service.engine import tune
from service.http import HttpApp
from service.http.routes import ROUTES
from service.oip import schemas as oip_schemas
from service.runtime import Runtime
from service.settings import Settings
from tests.support import make_adapter_file
from tests.tiny import make_tiny_backbone

ADMIN = "an-admin-key-that-only-tests-know-of"
ACME = "/v1/tenants/acme"
INTENTS = f"{ACME}/adapters/intents"
PREDICT = f"{INTENTS}/predict"
OPENAI = ("/v1/embeddings", "/v1/models")  # paths whose errors have OpenAI's shape
CODES = {
    400: {"invalid-json"},
    401: {"unauthenticated"},
    403: {"missing-scope", "quota-exceeded"},
    404: {"not-found"},
    405: {"method-not-allowed"},
    408: {"too-slow"},
    409: {"conflict"},
    412: {"stale-revision"},
    413: {"too-large"},
    415: {"unsupported-coding"},
    422: {"invalid-input", "invalid-name", "invalid-adapter", "wrong-backbone"},
    429: {"rate-limited", "tenant-overloaded"},
    500: {"internal", "head-failed"},
    503: {"adapter-unavailable", "overloaded", "registry-unavailable", "timed-out"},
    504: {"deadline-exceeded"},
}
_PATHS = {
    path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path), re.DOTALL)
    for path in dict.fromkeys(route.path for route in ROUTES)
}


@dataclass(frozen=True)
class Template:
    """A home to copy: tenants acme and other, each with a key and one released adapter, intents."""

    home: Path
    keys: dict[str, str]


@dataclass(frozen=True)
class Server:
    """A server on a copy of the template; `keys` are the tenants', for everything but admin."""

    runtime: Runtime
    http: httpx.AsyncClient
    document: dict[str, Any]
    keys: dict[str, str]

    @property
    def backbone(self) -> Backbone:
        return self.runtime.engines[0].backbone

    async def call(
        self, method: str, path: str, key: str | None = ADMIN, **options: Any
    ) -> httpx.Response:
        """Send, and check the answer against the document; `key` None sends no key."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        response = await self.http.request(method, path, headers=headers, **options)
        check_answer(self.document, method, response)
        return response

    async def ok(self, method: str, path: str, key: str | None = ADMIN, **options: Any) -> Any:
        """The JSON of an answer that must be a good one."""
        response = await self.call(method, path, key, **options)
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def problem(
        self, status: int, method: str, path: str, key: str | None = ADMIN, **options: Any
    ) -> dict[str, Any]:
        """The problem document of a refusal with this status."""
        response = await self.call(method, path, key, **options)
        assert response.status_code == status, response.text
        content: dict[str, Any] = response.json()
        return content

    def file(self, seed: int = 0, labels: tuple[str, ...] = ("no", "yes")) -> bytes:
        return make_adapter_file(labels, seed=seed, backbone=self.backbone.digest)

    async def publish(
        self, content: bytes, *, path: str = INTENTS, activate: bool = True, key: str = ADMIN
    ) -> Any:
        params = {"activate": str(activate).lower()}
        return await self.ok("POST", f"{path}/versions", key, content=content, params=params)

    async def predict(self, *inputs: str, path: str = INTENTS, key: str = ADMIN) -> Any:
        return await self.ok("POST", f"{path}/predict", key, json={"inputs": list(inputs)})

    async def new_key(self, tenant: str, *scopes: str) -> str:
        wanted = {"scopes": list(scopes)}
        text: str = (await self.ok("POST", f"/v1/tenants/{tenant}/keys", json=wanted))["key"]
        return text

    def metric(self, name: str, **labels: str) -> float:
        return self.runtime.metrics.registry.get_sample_value(f"headstock_{name}", labels) or 0

    async def waiting(self, n_rows: int) -> None:
        """Wait until so many rows stand in the queue."""
        async with asyncio.timeout(20):
            while self.metric("queue_rows", backbone=self.backbone.name) < n_rows:  # noqa: ASYNC110
                await asyncio.sleep(0)  # no more than the other tasks' turn

    async def state(self) -> Any:
        """All that a refused request must leave as it was."""
        tenants = (await self.ok("GET", "/v1/tenants"))["tenants"]
        return [
            await self.ok("GET", f"/v1/tenants/{tenant['name']}/{part}")
            for tenant in tenants
            for part in ("adapters", "keys")
        ]


def make_template(home: Path) -> Template:
    """A home on a tiny real backbone."""
    digest = make_tiny_backbone(home / "backbones").digest
    keys = {}
    with Registry.open(f"sqlite:///{home / 'registry.sqlite'}") as registry:
        for seed, tenant in enumerate(("acme", "other")):
            registry.create_tenant(tenant, actor="setup")
            _, keys[tenant] = registry.create_key(tenant, ["predict", "publish"], actor="setup")
            content = make_adapter_file(seed=seed, backbone=digest)
            adapter = read_adapter(content)
            registry.publish(
                tenant,
                "intents",
                digest=adapter.digest,
                backbone=digest,
                manifest=adapter.manifest.to_json(),
                content=content,
                activate=True,
                actor="setup",
            )
    return Template(home, keys)


@asynccontextmanager
async def serving(home: Path, template: Template, **settings: Any) -> AsyncIterator[Server]:
    """A started server on a copy of the template under `home`."""
    shutil.copytree(template.home, home, dirs_exist_ok=True)
    given = {
        "home": home,
        "admin_key": SecretStr(ADMIN),
        "poll_s": 60.0,
        "runs": 1,
        "threads": 1,
        **settings,
    }
    with pytest.MonkeyPatch.context() as patch:
        # Hundreds of servers: for each a shorter look at the backbone's speed.
        patch.setattr("service.runtime.tune", partial(tune, seconds=0.01))
        runtime = await Runtime.start(Settings(**given))
    app = HttpApp()
    app.runtime = runtime
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://headstock") as http:
            document = (await http.get("/openapi.json")).json()
            yield Server(runtime, http, document, template.keys)
    finally:
        await runtime.stop()


def check_answer(document: dict[str, Any], method: str, response: httpx.Response) -> None:
    """Whether an answer is one that the document announces."""
    media = response.headers.get("content-type", "").partition(";")[0]
    sent = response.request.url.raw_path.partition(b"?")[0].decode()
    if response.status_code >= 400:
        is_oip = sent == "/v2" or sent.startswith("/v2/")
        if is_oip or sent.startswith(OPENAI):
            check_error(response, oip_schemas.ErrorDocument if is_oip else schemas.OpenAiError)
        else:
            check_problem(response)
    operation = _operation(document, method, sent)
    if operation is None:
        assert response.status_code in (404, 405)
        return
    announced = operation["responses"]
    assert str(response.status_code) in announced, f"{response.status_code} is not announced"
    content = announced[str(response.status_code)].get("content")
    if content is None:
        assert response.content == b""
        return
    assert media in content
    schema = content[media]["schema"]
    if "$ref" in schema and method != "HEAD":
        find_model(schema["$ref"]).model_validate_json(response.content)


def find_model(reference: str) -> type[BaseModel]:
    """The model that a reference in the document is made from."""
    name = reference.rpartition("/")[2]
    found: type[BaseModel] = getattr(schemas, name, None) or getattr(oip_schemas, name)
    return found


def check_error(
    response: httpx.Response, model: type[oip_schemas.ErrorDocument | schemas.OpenAiError]
) -> None:
    """Whether an error is as a protocol's clients expect it, with its status's headers."""
    status, headers = response.status_code, response.headers
    assert headers["content-type"] == "application/json"
    assert ("allow" in headers) == (status == 405)
    assert (headers.get("www-authenticate") == "Bearer") == (status == 401)
    assert ("retry-after" in headers) == (status in (429, 503))
    if response.request.method != "HEAD":
        said = model.model_validate_json(response.content).error
        detail = said if isinstance(said, str) else said.message
        assert 0 < len(detail) < 2000
        assert detail.isprintable()
        assert "Traceback" not in detail


def check_problem(response: httpx.Response) -> None:
    """Whether an error is an RFC 9457 document with all that belongs to its status."""
    status, headers = response.status_code, response.headers
    assert headers["content-type"] == "application/problem+json"
    assert (headers.get("www-authenticate") == "Bearer") == (status == 401)
    assert ("retry-after" in headers) == (status in (429, 503))
    assert int(headers.get("retry-after", 1)) >= 1
    assert ("allow" in headers) == (status == 405)
    if response.request.method == "HEAD":
        assert response.content == b""
        return
    problem = schemas.ProblemDocument.model_validate_json(response.content)
    assert problem.status == status
    assert problem.code in CODES[status]
    assert problem.type == f"urn:headstock:problem:{problem.code}"
    assert problem.title
    assert 0 < len(problem.detail) < 2000
    assert problem.detail.isprintable()
    assert "Traceback" not in problem.detail


def _operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    for template, pattern in _PATHS.items():
        if pattern.fullmatch(path):
            wanted = "get" if method == "HEAD" else method.lower()
            found: dict[str, Any] | None = document["paths"][template].get(wanted)
            return found
    return None


def body(**content: Any) -> bytes:
    """JSON as it is, NaN included."""
    return json.dumps(content).encode()


async def chunks(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """A body with no announced length."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


def predict_scope(server: Server) -> Scope:
    """The ASGI scope of a prediction for acme, for tests that play the connection themselves."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": PREDICT,
        "raw_path": PREDICT.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {server.keys['acme']}".encode())],
    }
