"""A small client of the HTTP API, for the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from adapters.errors import HeadstockError

_CONNECT_S = 5.0
_ANSWER_S = 60.0


class RequestFailed(HeadstockError):
    """The server refused, or could not be reached."""

    def __init__(
        self, message: str, code: str = "request-failed", status: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # the server's code, not the type's
        self.status = status


class Client:
    """Talks to one server with one key. Use it as a context manager."""

    def __init__(self, server: str, key: str) -> None:
        self.server = server.rstrip("/")
        self.key = key
        self._http = httpx.Client(
            base_url=self.server,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def create_tenant(self, tenant: str) -> dict[str, Any]:
        """POST /v1/tenants."""
        return self._json("POST", "/v1/tenants", json={"name": tenant})

    def list_tenants(self) -> dict[str, Any]:
        """GET /v1/tenants."""
        return self._json("GET", "/v1/tenants")

    def get_feature_cache(self, tenant: str) -> dict[str, Any]:
        """GET /v1/tenants/{tenant}/feature-cache."""
        return self._json("GET", f"/v1/tenants/{tenant}/feature-cache")

    def set_feature_cache(self, tenant: str, mode: str) -> dict[str, Any]:
        """PUT /v1/tenants/{tenant}/feature-cache."""
        return self._json("PUT", f"/v1/tenants/{tenant}/feature-cache", json={"mode": mode})

    def create_key(self, tenant: str, scopes: Sequence[str]) -> dict[str, Any]:
        """POST /v1/tenants/{tenant}/keys."""
        return self._json("POST", f"/v1/tenants/{tenant}/keys", json={"scopes": list(scopes)})

    def list_keys(self, tenant: str) -> dict[str, Any]:
        """GET /v1/tenants/{tenant}/keys."""
        return self._json("GET", f"/v1/tenants/{tenant}/keys")

    def revoke_key(self, tenant: str, key_id: str) -> None:
        """DELETE /v1/tenants/{tenant}/keys/{id}."""
        self._send("DELETE", f"/v1/tenants/{tenant}/keys/{key_id}")

    def push(self, file: Path, tenant: str, adapter: str, activate: bool) -> dict[str, Any]:
        """POST an adapter file as a new version."""
        return self._json(
            "POST",
            f"/v1/tenants/{tenant}/adapters/{adapter}/versions",
            params={"activate": str(activate).lower()},
            content=file.read_bytes(),
            headers={"Content-Type": "application/octet-stream"},
        )

    def get_release(self, tenant: str, adapter: str) -> dict[str, Any]:
        """GET the release of an adapter."""
        return self._json("GET", f"/v1/tenants/{tenant}/adapters/{adapter}/release")

    def set_release(self, tenant: str, adapter: str, version: int) -> dict[str, Any]:
        """PUT the release of an adapter."""
        path = f"/v1/tenants/{tenant}/adapters/{adapter}/release"
        return self._json("PUT", path, json={"stable": version})

    def rollback(self, tenant: str, adapter: str) -> dict[str, Any]:
        """POST a rollback."""
        return self._json("POST", f"/v1/tenants/{tenant}/adapters/{adapter}/release/rollback")

    def predict(
        self, tenant: str, adapter: str, inputs: Sequence[str], top_k: int = 1
    ) -> dict[str, Any]:
        """POST texts, get predictions."""
        path = f"/v1/tenants/{tenant}/adapters/{adapter}/predict"
        return self._json("POST", path, json={"inputs": list(inputs), "top_k": top_k})

    def metrics(self) -> str:
        """GET the metrics, in Prometheus' text format."""
        return self._send("GET", "/metrics").text

    def _json(self, method: str, path: str, **parts: Any) -> dict[str, Any]:
        response = self._send(method, path, **parts)
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise _stranger(response)
        return content

    def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **parts)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise RequestFailed(
                f"no answer from {self.server}: {reason}; is the server up? Start it with: "
                "headstock serve"
            ) from error
        if response.is_success:
            return response
        raise _refusal(response)


def _refusal(response: httpx.Response) -> RequestFailed:
    try:
        problem = response.json()
        return RequestFailed(problem["detail"], problem["code"], response.status_code)
    except (ValueError, KeyError, TypeError):
        return _stranger(response)


def _stranger(response: httpx.Response) -> RequestFailed:
    return RequestFailed(
        f"{response.request.url} answered {response.status_code}, and not as a Headstock "
        "server does",
        status=response.status_code,
    )
