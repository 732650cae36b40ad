"""The client for ordinary code."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from headstock.client import answers, calls, wire
from headstock.client.calls import Call
from headstock.client.errors import RequestFailed
from headstock.client.retry import Retry
from headstock.client.wire import Progress

Answer = TypeVar("Answer")


class Client:
    """Talks to one server with one key; several threads may share it. Use it as a context manager.

    Every method raises RequestFailed. What a server refuses for want of room is sent again when it
    says so; what may have been done is sent again only where that changes nothing.
    """

    def __init__(self, server: str, key: str, retry: Retry | None = None) -> None:
        self.server = server.rstrip("/")
        self.key = key
        self._retry = retry or Retry()
        self._http = httpx.Client(**wire.settings(self.server, key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def create_tenant(self, tenant: str) -> answers.Tenant:
        """Create a tenant; with an admin's key, as all of tenants and keys."""
        return self._ask(calls.create_tenant(tenant))

    def list_tenants(self, limit: int = 100, after: str | None = None) -> answers.Tenants:
        """List tenants by name: those after the `next` of the page before."""
        return self._ask(calls.list_tenants(limit, after))

    def delete_tenant(self, tenant: str) -> None:
        """Delete a tenant with its keys, quota and adapters."""
        self._ask(calls.delete_tenant(tenant))

    def get_feature_cache(self, tenant: str) -> answers.FeatureCache:
        """Whether features of the tenant's inputs may be kept."""
        return self._ask(calls.get_feature_cache(tenant))

    def set_feature_cache(self, tenant: str, mode: str) -> answers.FeatureCache:
        """Let them be kept: off, own or shared."""
        return self._ask(calls.set_feature_cache(tenant, mode))

    def get_quota(self, tenant: str) -> answers.Quota:
        """What the tenant may have and ask at most."""
        return self._ask(calls.get_quota(tenant))

    def set_quota(self, tenant: str, quota: answers.Quota) -> answers.Quota:
        """Set it; what is not named has no limit."""
        return self._ask(calls.set_quota(tenant, quota))

    def get_usage(self, tenant: str) -> answers.TenantUsage:
        """What the tenant has and has used."""
        return self._ask(calls.get_usage(tenant))

    def create_key(
        self, tenant: str, scopes: Sequence[str], expires_in_s: int | None = None
    ) -> answers.NewKey:
        """A new key of a tenant, shown this once; it ends after so many seconds, or never."""
        return self._ask(calls.create_key(tenant, scopes, expires_in_s))

    def rotate_key(
        self, tenant: str, key_id: str, overlap_s: int = 86_400, expires_in_s: int | None = None
    ) -> answers.NewKey:
        """A new key in place of another, which works on for `overlap_s` seconds."""
        return self._ask(calls.rotate_key(tenant, key_id, overlap_s, expires_in_s))

    def list_keys(self, tenant: str, limit: int = 100, after: str | None = None) -> answers.Keys:
        """List a tenant's keys, oldest first."""
        return self._ask(calls.list_keys(tenant, limit, after))

    def revoke_key(self, tenant: str, key_id: str) -> None:
        """End a key."""
        self._ask(calls.revoke_key(tenant, key_id))

    def list_audit(
        self, tenant: str | None = None, limit: int = 100, after: int | None = None
    ) -> answers.AuditTrail:
        """List changes of a tenant, or of all, newest first."""
        return self._ask(calls.list_audit(tenant, limit, after))

    def push(
        self,
        file: Path,
        tenant: str,
        adapter: str,
        activate: bool = False,
        progress: Progress | None = None,
    ) -> answers.Published:
        """Upload an adapter file as a new version. `progress` gets bytes sent, and all."""
        return self._ask(calls.push(file.read_bytes(), tenant, adapter, activate), progress)

    def list_adapters(
        self, tenant: str, limit: int = 100, after: str | None = None
    ) -> answers.Adapters:
        """List a tenant's adapters by name."""
        return self._ask(calls.list_adapters(tenant, limit, after))

    def delete_adapter(self, tenant: str, adapter: str) -> None:
        """Delete an adapter with its versions and its release."""
        self._ask(calls.delete_adapter(tenant, adapter))

    def list_versions(
        self, tenant: str, adapter: str, limit: int = 100, after: int | None = None
    ) -> answers.Versions:
        """List an adapter's versions, oldest first, without their manifests."""
        return self._ask(calls.list_versions(tenant, adapter, limit, after))

    def get_version(self, tenant: str, adapter: str, version: int) -> answers.Version:
        """Show one version with its manifest."""
        return self._ask(calls.get_version(tenant, adapter, version))

    def delete_version(self, tenant: str, adapter: str, version: int) -> None:
        """Delete a version that is not released."""
        self._ask(calls.delete_version(tenant, adapter, version))

    def get_release(self, tenant: str, adapter: str) -> answers.Release:
        """Which version answers."""
        return self._ask(calls.get_release(tenant, adapter))

    def set_release(self, tenant: str, adapter: str, version: int) -> answers.Release:
        """Let another version answer."""
        return self._ask(calls.set_release(tenant, adapter, version))

    def rollback(self, tenant: str, adapter: str) -> answers.Release:
        """Let the version before answer again."""
        return self._ask(calls.rollback(tenant, adapter))

    def predict(
        self, tenant: str, adapter: str, inputs: Sequence[str], top_k: int = 1
    ) -> answers.Predictions:
        """What an adapter says to texts."""
        return self._ask(calls.predict(tenant, adapter, inputs, top_k))

    def predict_all(
        self, tenant: str, adapters: Sequence[str], inputs: Sequence[str], top_k: int = 1
    ) -> answers.FanOut:
        """What several adapters say to the same texts."""
        return self._ask(calls.predict_all(tenant, adapters, inputs, top_k))

    def embed(
        self,
        model: str,
        inputs: Sequence[str],
        *,
        dimensions: int | None = None,
        input_type: str | None = None,
    ) -> answers.Embeddings:
        """Vectors of texts: a backbone's, or those behind the LoRA of `tenant.adapter`.

        `dimensions` cuts those of a Matryoshka model, `input_type` (query, document) chooses the
        backbone's prompt.
        """
        return self._ask(calls.embed(model, inputs, dimensions, input_type))

    def list_backbones(self, limit: int = 100, after: str | None = None) -> answers.Backbones:
        """List the backbones that are served by name."""
        return self._ask(calls.list_backbones(limit, after))

    def metrics(self) -> str:
        """The server's metrics, in Prometheus' text format."""
        return self._ask(calls.metrics())

    def _ask(self, call: Call[Answer], progress: Progress | None = None) -> Answer:
        attempt, waited_s = 1, 0.0
        while True:
            try:
                return wire.read(call, self._send(call, progress))
            except httpx.HTTPError as error:
                failed, fate = wire.failure(self.server, error)
            except RequestFailed as error:
                failed, fate = error, "refused"
            wait_s = self._retry.wait_s(
                failed, fate, call.is_repeatable, attempt, waited_s, random.random()
            )
            if wait_s is None:
                raise failed
            time.sleep(wait_s)
            attempt, waited_s = attempt + 1, waited_s + wait_s

    def _send(self, call: Call[Any], progress: Progress | None) -> httpx.Response:
        given = wire.options(call)
        if call.content is not None:
            given["content"] = wire.pieces(call.content, progress)
        return self._http.request(call.method, call.path, **given)
