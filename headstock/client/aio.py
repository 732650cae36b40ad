"""The client for event loops: `Client`, awaited."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from headstock.client import answers, calls, wire
from headstock.client.calls import Call
from headstock.client.errors import RequestFailed
from headstock.client.retry import Retry
from headstock.client.wire import Progress

Answer = TypeVar("Answer")


class AsyncClient:
    """Talks to one server with one key, in one loop. Use it as an async context manager.

    Every method raises RequestFailed. What a server refuses for want of room is sent again when it
    says so; what may have been done is sent again only where that changes nothing.
    """

    def __init__(self, server: str, key: str, retry: Retry | None = None) -> None:
        self.server = server.rstrip("/")
        self.key = key
        self._retry = retry or Retry()
        self._http = httpx.AsyncClient(**wire.settings(self.server, key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def create_tenant(self, tenant: str) -> answers.Tenant:
        """Create a tenant; with an admin's key, as all of tenants and keys."""
        return await self._ask(calls.create_tenant(tenant))

    async def list_tenants(self, limit: int = 100, after: str | None = None) -> answers.Tenants:
        """List tenants by name: those after the `next` of the page before."""
        return await self._ask(calls.list_tenants(limit, after))

    async def delete_tenant(self, tenant: str) -> None:
        """Delete a tenant with its keys, quota and adapters."""
        await self._ask(calls.delete_tenant(tenant))

    async def get_feature_cache(self, tenant: str) -> answers.FeatureCache:
        """Whether features of the tenant's inputs may be kept."""
        return await self._ask(calls.get_feature_cache(tenant))

    async def set_feature_cache(self, tenant: str, mode: str) -> answers.FeatureCache:
        """Let them be kept: off, own or shared."""
        return await self._ask(calls.set_feature_cache(tenant, mode))

    async def get_quota(self, tenant: str) -> answers.Quota:
        """What the tenant may have and ask at most."""
        return await self._ask(calls.get_quota(tenant))

    async def set_quota(self, tenant: str, quota: answers.Quota) -> answers.Quota:
        """Set it; what is not named has no limit."""
        return await self._ask(calls.set_quota(tenant, quota))

    async def get_usage(self, tenant: str) -> answers.TenantUsage:
        """What the tenant has and has used."""
        return await self._ask(calls.get_usage(tenant))

    async def create_key(
        self, tenant: str, scopes: Sequence[str], expires_in_s: int | None = None
    ) -> answers.NewKey:
        """A new key of a tenant, shown this once; it ends after so many seconds, or never."""
        return await self._ask(calls.create_key(tenant, scopes, expires_in_s))

    async def rotate_key(
        self, tenant: str, key_id: str, overlap_s: int = 86_400, expires_in_s: int | None = None
    ) -> answers.NewKey:
        """A new key in place of another, which works on for `overlap_s` seconds."""
        return await self._ask(calls.rotate_key(tenant, key_id, overlap_s, expires_in_s))

    async def list_keys(
        self, tenant: str, limit: int = 100, after: str | None = None
    ) -> answers.Keys:
        """List a tenant's keys, oldest first."""
        return await self._ask(calls.list_keys(tenant, limit, after))

    async def revoke_key(self, tenant: str, key_id: str) -> None:
        """End a key."""
        await self._ask(calls.revoke_key(tenant, key_id))

    async def list_audit(
        self, tenant: str | None = None, limit: int = 100, after: int | None = None
    ) -> answers.AuditTrail:
        """List changes of a tenant, or of all, newest first."""
        return await self._ask(calls.list_audit(tenant, limit, after))

    async def push(
        self,
        file: Path,
        tenant: str,
        adapter: str,
        activate: bool = False,
        progress: Progress | None = None,
    ) -> answers.Published:
        """Upload an adapter file as a new version. `progress` gets bytes sent, and all."""
        return await self._ask(
            calls.push(await asyncio.to_thread(file.read_bytes), tenant, adapter, activate),
            progress,
        )

    async def list_adapters(
        self, tenant: str, limit: int = 100, after: str | None = None
    ) -> answers.Adapters:
        """List a tenant's adapters by name."""
        return await self._ask(calls.list_adapters(tenant, limit, after))

    async def delete_adapter(self, tenant: str, adapter: str) -> None:
        """Delete an adapter with its versions and its release."""
        await self._ask(calls.delete_adapter(tenant, adapter))

    async def list_versions(
        self, tenant: str, adapter: str, limit: int = 100, after: int | None = None
    ) -> answers.Versions:
        """List an adapter's versions, oldest first, without their manifests."""
        return await self._ask(calls.list_versions(tenant, adapter, limit, after))

    async def get_version(self, tenant: str, adapter: str, version: int) -> answers.Version:
        """Show one version with its manifest."""
        return await self._ask(calls.get_version(tenant, adapter, version))

    async def delete_version(self, tenant: str, adapter: str, version: int) -> None:
        """Delete a version that is not released."""
        await self._ask(calls.delete_version(tenant, adapter, version))

    async def get_release(self, tenant: str, adapter: str) -> answers.Release:
        """Which version answers."""
        return await self._ask(calls.get_release(tenant, adapter))

    async def set_release(self, tenant: str, adapter: str, version: int) -> answers.Release:
        """Let another version answer."""
        return await self._ask(calls.set_release(tenant, adapter, version))

    async def rollback(self, tenant: str, adapter: str) -> answers.Release:
        """Let the version before answer again."""
        return await self._ask(calls.rollback(tenant, adapter))

    async def predict(
        self, tenant: str, adapter: str, inputs: Sequence[str], top_k: int = 1
    ) -> answers.Predictions:
        """What an adapter says to texts."""
        return await self._ask(calls.predict(tenant, adapter, inputs, top_k))

    async def predict_all(
        self, tenant: str, adapters: Sequence[str], inputs: Sequence[str], top_k: int = 1
    ) -> answers.FanOut:
        """What several adapters say to the same texts."""
        return await self._ask(calls.predict_all(tenant, adapters, inputs, top_k))

    async def embed(
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
        return await self._ask(calls.embed(model, inputs, dimensions, input_type))

    async def list_backbones(self, limit: int = 100, after: str | None = None) -> answers.Backbones:
        """List the backbones that are served by name."""
        return await self._ask(calls.list_backbones(limit, after))

    async def metrics(self) -> str:
        """The server's metrics, in Prometheus' text format."""
        return await self._ask(calls.metrics())

    async def _ask(self, call: Call[Answer], progress: Progress | None = None) -> Answer:
        attempt, waited_s = 1, 0.0
        while True:
            try:
                return wire.read(call, await self._send(call, progress))
            except httpx.HTTPError as error:
                failed, fate = wire.failure(self.server, error)
            except RequestFailed as error:
                failed, fate = error, "refused"
            wait_s = self._retry.wait_s(
                failed, fate, call.is_repeatable, attempt, waited_s, random.random()
            )
            if wait_s is None:
                raise failed
            await asyncio.sleep(wait_s)
            attempt, waited_s = attempt + 1, waited_s + wait_s

    async def _send(self, call: Call[Any], progress: Progress | None) -> httpx.Response:
        given = wire.options(call)
        if call.content is not None:
            given["content"] = _pieces(call.content, progress)
        return await self._http.request(call.method, call.path, **given)


async def _pieces(content: bytes, progress: Progress | None) -> AsyncIterator[bytes]:
    for piece in wire.pieces(content, progress):
        yield piece
