"""The registry as transports need it: off the event loop, and live by the time of the answer."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import ParamSpec, TypeVar

from adapters.adapter import Adapter, read_adapter
from adapters.errors import NotFound, StaleRevision
from adapters.manifest import parse_manifest
from adapters.names import check_name
from adapters.registry import (
    ActiveRelease,
    CacheMode,
    ExpectedRevision,
    KeyInfo,
    Quota,
    Registry,
    Release,
    UploadRoom,
    Version,
)
from backbone import Backbone
from service import schemas
from service.changes import Changes
from service.compatibility import check_fit, find_served
from service.engine import ResidentAdapters
from service.engine.priority import give_way
from service.follower import Follower
from service.oip.models import model_metadata
from service.oip.names import ModelName
from service.oip.schemas import ModelMetadata
from service.storing import Storing
from service.usage import Usage

P = ParamSpec("P")
T = TypeVar("T")


class Control:
    """The registry behind the API. `actor` is the id of the key that asks, for the audit trail."""

    def __init__(
        self,
        registry: Registry,
        follower: Follower,
        residents: ResidentAdapters,
        backbones: Mapping[str, Backbone],
        usage: Usage,
    ) -> None:
        self._registry = registry
        self._changes = Changes(follower, residents)
        self._storing = Storing(registry, self._changes)
        # Long files are read and checked here, two at a time: others wait for no thread of theirs.
        self._files = ThreadPoolExecutor(2, "registry-files", initializer=give_way)
        self._residents = residents
        self._backbones = backbones  # by digest
        self._usage = usage

    async def stop(self) -> None:
        """Stop when the change under way is committed."""
        await self._changes.stop()
        await asyncio.to_thread(self._files.shutdown)

    async def create_tenant(self, name: str, actor: str) -> schemas.TenantInfo:
        """A new tenant. Raises InvalidName, Conflict."""
        tenant = await self._change(self._registry.create_tenant, name, actor=actor)
        return schemas.TenantInfo(name=tenant.name, created_at=tenant.created_at)

    async def list_tenants(self, limit: int, after: str | None) -> schemas.TenantList:
        """List tenants by name."""
        found = await asyncio.to_thread(self._registry.list_tenants, limit=limit + 1, after=after)
        infos = [schemas.TenantInfo(name=each.name, created_at=each.created_at) for each in found]
        return schemas.TenantList(
            tenants=infos[:limit], next=infos[limit - 1].name if len(infos) > limit else None
        )

    async def delete_tenant(self, tenant: str, actor: str) -> None:
        """Delete a tenant with all that it has. Raises NotFound."""
        self._drop(await self._change(self._registry.delete_tenant, tenant, actor=actor))

    async def get_feature_cache(self, tenant: str) -> schemas.FeatureCacheMode:
        """The mode of a tenant's feature cache. Raises NotFound."""
        mode = await asyncio.to_thread(self._registry.get_feature_cache, tenant)
        return schemas.FeatureCacheMode(mode=mode)

    async def set_feature_cache(
        self, tenant: str, mode: CacheMode, actor: str
    ) -> schemas.FeatureCacheMode:
        """Set the mode of a tenant's feature cache. Raises NotFound."""
        now = await self._change(self._registry.set_feature_cache, tenant, mode, actor=actor)
        return schemas.FeatureCacheMode(mode=now)

    async def get_quota(self, tenant: str) -> schemas.Quota:
        """What a tenant may have at most. Raises NotFound."""
        return schemas.Quota(**asdict(await asyncio.to_thread(self._registry.get_quota, tenant)))

    async def set_quota(self, tenant: str, wanted: schemas.Quota, actor: str) -> schemas.Quota:
        """Set all limits of a tenant. Raises NotFound."""
        quota = Quota(**wanted.model_dump())
        await self._change(self._registry.set_quota, tenant, quota, actor=actor)
        return wanted

    async def get_usage(self, tenant: str) -> schemas.TenantUsage:
        """What a tenant has, and has used here since the start. Raises NotFound."""
        has = await asyncio.to_thread(self._registry.holdings, tenant)
        used = self._usage.of(tenant)
        return schemas.TenantUsage(
            adapters=has.adapters,
            versions=has.versions,
            bytes=has.bytes,
            since=self._usage.since,
            requests=used.requests,
            rows=used.rows,
            tokens=used.tokens,
            truncated=used.truncated,
            compute_share=self._usage.share(tenant),
        )

    async def create_key(
        self, tenant: str, wanted: schemas.NewKeyRequest, actor: str
    ) -> schemas.NewKey:
        """A new key of a tenant. Raises NotFound, Conflict."""
        return _new_key(
            *await self._change(
                self._registry.create_key,
                tenant,
                wanted.scopes,
                lifetime=_lifetime(wanted.expires_in_s),
                actor=actor,
            )
        )

    async def rotate_key(
        self, tenant: str, key_id: str, wanted: schemas.KeyRotation, actor: str
    ) -> schemas.NewKey:
        """A new key in place of another. Raises NotFound, Conflict."""
        return _new_key(
            *await self._change(
                self._registry.rotate_key,
                tenant,
                key_id,
                overlap=timedelta(seconds=wanted.overlap_s),
                lifetime=_lifetime(wanted.expires_in_s),
                actor=actor,
            )
        )

    async def list_keys(self, tenant: str, limit: int, after: str | None) -> schemas.KeyList:
        """List a tenant's keys. Raises NotFound."""
        keys = await asyncio.to_thread(
            self._registry.list_keys, tenant, limit=limit + 1, after=after
        )
        return schemas.KeyList(
            next=keys[limit - 1].id if len(keys) > limit else None,
            keys=[
                schemas.KeyInfo(
                    id=key.id,
                    scopes=sorted(key.scopes),
                    created_at=key.created_at,
                    revoked_at=key.revoked_at,
                    expires_at=key.expires_at,
                )
                for key in keys[:limit]
            ],
        )

    async def revoke_key(self, tenant: str, key_id: str, actor: str) -> None:
        """End a key. Raises NotFound."""
        await self._change(self._registry.revoke_key, tenant, key_id, actor=actor)

    async def list_audit(
        self, tenant: str | None, limit: int, after: int | None
    ) -> schemas.AuditTrail:
        """List changes of a tenant, or all where None, newest first."""
        rows = await asyncio.to_thread(
            self._registry.list_audit, tenant, limit=limit + 1, after=after
        )
        return schemas.AuditTrail(
            next=rows[limit - 1].seq if len(rows) > limit else None,
            changes=[
                schemas.AuditRow(
                    seq=row.seq,
                    at=row.at,
                    actor=row.actor,
                    action=row.action,
                    tenant=row.tenant,
                    adapter=row.adapter,
                    detail=dict(row.detail),
                )
                for row in rows[:limit]
            ],
        )

    async def upload_room(self, tenant: str, adapter: str, announced: int = 0) -> UploadRoom:
        """How much of an upload may be read, before a byte of it is; 0: its length is not known.

        Raises:
            InvalidName: no adapter can be called so.
            NotFound: no such tenant.
            QuotaExceeded: the tenant would have more than it may.
        """
        check_name("adapter", adapter)
        return await asyncio.to_thread(self._registry.upload_room, tenant, adapter, announced)

    async def publish(
        self, tenant: str, adapter: str, content: bytes, activate: bool, actor: str
    ) -> schemas.Published:
        """Check a file in full, store it as a version, and release it where `activate` says so.

        Raises:
            InvalidName, InvalidAdapter, WrongBackbone, TooLarge: nothing was stored.
            NotFound: no such tenant.
        """
        check_name("adapter", adapter)
        checked = await self._with_file(self._check, content)
        # Again, now that its length is known: what is refused below would be written before.
        await asyncio.to_thread(self._registry.upload_room, tenant, adapter, len(content))
        publish = partial(
            self._registry.publish,
            tenant,
            adapter,
            digest=checked.digest,
            backbone=checked.manifest.backbone,
            manifest=checked.manifest.to_json(),
            content=content,
            activate=activate,
            actor=actor,
        )
        ready = checked.for_serving() if activate else None
        # What is a version already is not written again, only to be dropped.
        is_known = await asyncio.to_thread(
            self._registry.has_version, tenant, adapter, checked.digest
        )
        async with self._storing.stored(b"" if is_known else content) as upload:
            published = await self._changes.make(partial(publish, upload=upload), ready)
        return schemas.Published(
            version=published.version.number,
            digest=published.version.digest,
            created=published.created,
            release=_release_info(published.release) if published.release else None,
        )

    async def list_adapters(
        self, tenant: str, limit: int, after: str | None
    ) -> schemas.AdapterList:
        """List a tenant's adapters by name. Raises NotFound."""
        adapters = await asyncio.to_thread(
            self._registry.list_adapters, tenant, limit=limit + 1, after=after
        )
        return schemas.AdapterList(
            next=adapters[limit - 1].name if len(adapters) > limit else None,
            adapters=[
                schemas.AdapterInfo(
                    name=each.name,
                    latest_version=each.latest,
                    release=_release_info(each.release) if each.release else None,
                )
                for each in adapters[:limit]
            ],
        )

    async def list_versions(
        self, tenant: str, adapter: str, limit: int, after: int | None
    ) -> schemas.VersionList:
        """List versions of an adapter, oldest first. Raises NotFound."""
        found = await asyncio.to_thread(
            self._registry.list_versions, tenant, adapter, limit=limit + 1, after=after
        )
        return schemas.VersionList(
            versions=[
                schemas.VersionRow(
                    version=each.number,
                    digest=each.digest,
                    backbone=each.backbone,
                    size=each.size,
                    created_at=each.created_at,
                )
                for each in found[:limit]
            ],
            next=found[limit - 1].number if len(found) > limit else None,
        )

    async def delete_adapter(self, tenant: str, adapter: str, actor: str) -> None:
        """Delete an adapter with its versions and release. Raises NotFound."""
        change = self._change(self._registry.delete_adapter, tenant, adapter, actor=actor)
        self._drop(await change)

    async def delete_version(self, tenant: str, adapter: str, number: int, actor: str) -> None:
        """Delete a version. Raises NotFound; Conflict for one that is released."""
        change = self._change(self._registry.delete_version, tenant, adapter, number, actor=actor)
        self._drop(await change)

    def _drop(self, digests: Iterable[str]) -> None:
        """Forget versions that nobody has any more; those that were asked by number, too."""
        for digest in digests:
            self._residents.drop(digest)

    async def get_version(self, tenant: str, adapter: str, number: int) -> schemas.VersionInfo:
        """One version. Raises NotFound."""
        version = await asyncio.to_thread(self._registry.get_version, tenant, adapter, number)
        return await asyncio.to_thread(_version_info, version)

    async def find_version(self, tenant: str, adapter: str, number: int) -> ActiveRelease:
        """A version as a release would name it, of revision 0. Raises NotFound."""
        found = await asyncio.to_thread(self._registry.get_version, tenant, adapter, number)
        return ActiveRelease(adapter, 0, found.number, found.digest, found.backbone)

    async def describe_model(self, model: ModelName, number: int | None) -> ModelMetadata:
        """An adapter as a model: of one version, or of the released one. Raises NotFound."""
        if number is None:
            number = (await self.get_release(*model)).stable
        return await asyncio.to_thread(self._describe, model, number)

    def _describe(self, model: ModelName, number: int) -> ModelMetadata:
        version = self._registry.get_version(*model, number)
        numbers = [each.number for each in self._registry.list_versions(*model)]
        return model_metadata(model, numbers, parse_manifest(version.manifest))

    async def read_file(self, tenant: str, adapter: str, number: int) -> tuple[str, bytes]:
        """Digest and bytes of one version. Raises NotFound."""
        version = await asyncio.to_thread(self._registry.get_version, tenant, adapter, number)
        return version.digest, await self._with_file(self._registry.read_content, version.digest)

    async def get_release(self, tenant: str, adapter: str) -> schemas.ReleaseInfo:
        """Which version answers. Raises NotFound."""
        release = await asyncio.to_thread(self._registry.get_release, tenant, adapter)
        if release is None:
            raise NotFound(f"adapter {adapter!r} has no release yet: activate one of its versions")
        return _release_info(release)

    async def set_release(
        self, tenant: str, adapter: str, stable: int, expected: ExpectedRevision, actor: str
    ) -> schemas.ReleaseInfo:
        """Let another version answer, once it is ready to.

        Raises:
            NotFound, StaleRevision: there is no such version; the release has moved.
            WrongBackbone, InvalidAdapter: it could not answer here.
        """
        version = await asyncio.to_thread(self._registry.get_version, tenant, adapter, stable)
        await self._make_ready(version)
        release = await self._change(
            self._registry.set_release,
            tenant,
            adapter,
            stable,
            expected_revision=expected,
            actor=actor,
        )
        return _release_info(release)

    async def rollback(
        self, tenant: str, adapter: str, expected: ExpectedRevision, actor: str
    ) -> schemas.ReleaseInfo:
        """Let the version before answer again, once it is ready to.

        Raises:
            NotFound, Conflict, StaleRevision: there is none; the release has moved.
            WrongBackbone, InvalidAdapter: it could not answer here.
        """
        revision, version = await asyncio.to_thread(
            self._registry.rollback_target, tenant, adapter, expected_revision=expected
        )
        await self._make_ready(version)
        try:
            release = await self._change(
                self._registry.rollback, tenant, adapter, expected_revision=revision, actor=actor
            )
        except StaleRevision:
            # It moved since this looked. Who named a revision is told so by another look.
            return await self.rollback(tenant, adapter, expected, actor)
        return _release_info(release)

    def list_backbones(self, limit: int, after: str | None) -> schemas.BackboneList:
        """List the backbones served here by name."""
        served = sorted((each.name, digest, each) for digest, each in self._backbones.items())
        found = [each for each in served if after is None or each[0] > after]
        return schemas.BackboneList(
            next=found[limit - 1][0] if len(found) > limit else None,
            backbones=[
                schemas.BackboneInfo(
                    name=name,
                    digest=digest,
                    modality=backbone.manifest.modality,
                    precision=backbone.manifest.precision,
                    features={
                        feature: list(described.dims)
                        for feature, described in backbone.manifest.features.items()
                    },
                )
                for name, digest, backbone in found[:limit]
            ],
        )

    async def _with_file(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._files, partial(work, *args, **kwargs))

    async def _change(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._changes.make(partial(call, *args, **kwargs))

    async def _make_ready(self, version: Version) -> None:
        """Load a version that shall be released. Raises WrongBackbone, InvalidAdapter."""
        backbone = find_served(self._backbones, version.backbone)
        check_fit(await self._residents.get(version.digest), backbone)

    def _check(self, content: bytes) -> Adapter:
        adapter = read_adapter(content)
        check_fit(adapter, find_served(self._backbones, adapter.manifest.backbone))
        return adapter


def _lifetime(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _new_key(info: KeyInfo, text: str) -> schemas.NewKey:
    return schemas.NewKey(id=info.id, key=text, expires_at=info.expires_at)


def _release_info(release: Release) -> schemas.ReleaseInfo:
    return schemas.ReleaseInfo(stable=release.stable, revision=release.revision)


def _version_info(version: Version) -> schemas.VersionInfo:
    return schemas.VersionInfo(
        version=version.number,
        digest=version.digest,
        backbone=version.backbone,
        size=version.size,
        created_at=version.created_at,
        manifest=json.loads(version.manifest),
    )
