"""The registry as transports need it: off the event loop, and live by the time of the answer."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from adapters import registry as records
from adapters.adapter import Adapter, read_adapter
from adapters.errors import InvalidAdapter, NotFound, RegistryUnavailable, WrongBackbone
from adapters.names import check_name
from backbone import Backbone
from service import schemas
from service.engine import ResidentAdapters
from service.follower import Follower

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Control:
    """The registry behind the API. `actor` is the id of the key that asks, for the audit trail."""

    def __init__(
        self,
        registry: records.Registry,
        follower: Follower,
        residents: ResidentAdapters,
        backbones: Mapping[str, Backbone],
    ) -> None:
        self._registry = registry
        self._follower = follower
        self._residents = residents
        self._backbones = backbones  # by digest

    async def create_tenant(self, name: str, actor: str) -> schemas.TenantInfo:
        """A new tenant. Raises InvalidName, Conflict."""
        tenant = await self._change(self._registry.create_tenant, name, actor=actor)
        return schemas.TenantInfo(name=tenant.name, created_at=tenant.created_at)

    async def list_tenants(self) -> schemas.TenantList:
        """All tenants."""
        tenants = await asyncio.to_thread(self._registry.list_tenants)
        infos = [schemas.TenantInfo(name=each.name, created_at=each.created_at) for each in tenants]
        return schemas.TenantList(tenants=infos)

    async def create_key(
        self, tenant: str, scopes: Sequence[schemas.Scope], actor: str
    ) -> schemas.NewKey:
        """A new key of a tenant. Raises NotFound, Conflict."""
        info, text = await self._change(self._registry.create_key, tenant, scopes, actor=actor)
        return schemas.NewKey(id=info.id, key=text)

    async def list_keys(self, tenant: str) -> schemas.KeyList:
        """A tenant's keys. Raises NotFound."""
        keys = await asyncio.to_thread(self._registry.list_keys, tenant)
        return schemas.KeyList(
            keys=[
                schemas.KeyInfo(
                    id=key.id,
                    scopes=sorted(key.scopes),
                    created_at=key.created_at,
                    revoked_at=key.revoked_at,
                )
                for key in keys
            ]
        )

    async def revoke_key(self, tenant: str, key_id: str, actor: str) -> None:
        """End a key. Raises NotFound."""
        await self._change(self._registry.revoke_key, tenant, key_id, actor=actor)

    async def publish(
        self, tenant: str, adapter: str, content: bytes, activate: bool, actor: str
    ) -> schemas.Published:
        """Check a file in full, store it as a version, and release it where `activate` says so.

        Raises:
            InvalidName, InvalidAdapter, WrongBackbone, TooLarge: nothing was stored.
            NotFound: no such tenant.
        """
        check_name("adapter", adapter)
        checked = await asyncio.to_thread(self._check, content)
        if activate:
            self._residents.put(checked)
        published = await self._change(
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
        return schemas.Published(
            version=published.version.number,
            digest=published.version.digest,
            created=published.created,
            release=_release(published.release),
        )

    async def list_adapters(self, tenant: str) -> schemas.AdapterList:
        """A tenant's adapters. Raises NotFound."""
        adapters = await asyncio.to_thread(self._registry.list_adapters, tenant)
        return schemas.AdapterList(
            adapters=[
                schemas.AdapterInfo(
                    name=each.name,
                    latest_version=each.latest,
                    release=_release(each.release),
                )
                for each in adapters
            ]
        )

    async def list_versions(self, tenant: str, adapter: str) -> schemas.VersionList:
        """All versions of an adapter. Raises NotFound."""
        versions = await asyncio.to_thread(self._registry.list_versions, tenant, adapter)
        return schemas.VersionList(versions=[_version(each) for each in versions])

    async def get_version(self, tenant: str, adapter: str, number: int) -> schemas.VersionInfo:
        """One version. Raises NotFound."""
        return _version(
            await asyncio.to_thread(self._registry.get_version, tenant, adapter, number)
        )

    async def read_file(self, tenant: str, adapter: str, number: int) -> tuple[str, bytes]:
        """Digest and bytes of one version. Raises NotFound."""
        version = await asyncio.to_thread(self._registry.get_version, tenant, adapter, number)
        return version.digest, await asyncio.to_thread(self._registry.read_content, version.digest)

    async def get_release(self, tenant: str, adapter: str) -> schemas.ReleaseInfo:
        """Which version answers. Raises NotFound."""
        release = _release(await asyncio.to_thread(self._registry.get_release, tenant, adapter))
        if release is None:
            raise NotFound(f"adapter {adapter!r} has no release yet: activate one of its versions")
        return release

    async def set_release(
        self, tenant: str, adapter: str, stable: int, expected: int | None, actor: str
    ) -> schemas.ReleaseInfo:
        """Let another version answer. Raises NotFound, StaleRevision."""
        release = await self._change(
            self._registry.set_release,
            tenant,
            adapter,
            stable,
            expected_revision=expected,
            actor=actor,
        )
        return _shown(release)

    async def rollback(
        self, tenant: str, adapter: str, expected: int | None, actor: str
    ) -> schemas.ReleaseInfo:
        """Let the version before answer again. Raises NotFound, Conflict, StaleRevision."""
        release = await self._change(
            self._registry.rollback, tenant, adapter, expected_revision=expected, actor=actor
        )
        return _shown(release)

    def list_backbones(self) -> schemas.BackboneList:
        """The backbones served here."""
        return schemas.BackboneList(
            backbones=[
                schemas.BackboneInfo(
                    name=backbone.name,
                    digest=digest,
                    modality=backbone.manifest.modality,
                    precision=backbone.manifest.precision,
                    features={
                        name: list(feature.dims)
                        for name, feature in backbone.manifest.features.items()
                    },
                )
                for digest, backbone in self._backbones.items()
            ]
        )

    async def _change(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Commit a change, then make it live in this server before it is answered."""
        # Shielded: a client that leaves does not leave a committed change unseen.
        return await asyncio.shield(self._commit(lambda: call(*args, **kwargs)))

    async def _commit(self, call: Callable[[], T]) -> T:
        result = await asyncio.to_thread(call)
        try:
            await self._follower.catch_up()
        except RegistryUnavailable as error:
            # The change stands; its answer (a new key, say) is not given up for a late look.
            logger.warning("a change was committed and is followed later: %s", error)
        return result

    def _check(self, content: bytes) -> Adapter:
        adapter = read_adapter(content)
        manifest = adapter.manifest
        backbone = self._backbones.get(manifest.backbone)
        if backbone is None:
            served = ", ".join(
                f"{each.name} ({digest})" for digest, each in self._backbones.items()
            )
            raise WrongBackbone(
                f"the adapter was trained on backbone {manifest.backbone}; served here: {served}"
            )
        if manifest.feature not in backbone.manifest.features:
            raise InvalidAdapter(
                f"backbone {backbone.name} has no feature {manifest.feature[:80]!r}; it has "
                f"{sorted(backbone.manifest.features)}"
            )
        if backbone.manifest.features[manifest.feature].dims[:-1] != ("n",):
            raise InvalidAdapter(
                f"a {manifest.head} head takes one vector a row, and {manifest.feature!r} of "
                f"backbone {backbone.name} has several"
            )
        width = backbone.manifest.width(manifest.feature)
        if adapter.width != width:
            raise InvalidAdapter(
                f"the head takes features of width {adapter.width}; {manifest.feature!r} of "
                f"backbone {backbone.name} has {width}"
            )
        return adapter


def _shown(release: records.Release) -> schemas.ReleaseInfo:
    return schemas.ReleaseInfo(stable=release.stable, revision=release.revision)


def _release(release: records.Release | None) -> schemas.ReleaseInfo | None:
    return None if release is None else _shown(release)


def _version(version: records.Version) -> schemas.VersionInfo:
    return schemas.VersionInfo(
        version=version.number,
        digest=version.digest,
        backbone=version.backbone,
        size=version.size,
        created_at=version.created_at,
        manifest=json.loads(version.manifest),
    )
