"""`headstock.v1.Registry`: uploads in pieces, versions and releases, as `/v1/tenants` has them."""

import json
from collections.abc import AsyncIterator

from adapters.errors import InvalidInput, TooLarge
from service import schemas
from service.call import Call
from service.protos import registry_pb2 as pb


async def publish(
    call: Call, first: pb.PublishRequest, rest: AsyncIterator[pb.PublishRequest]
) -> pb.PublishResponse:
    """Upload an adapter file as a new version; the same bytes again are the same version."""
    content = await _content(call, first, rest)
    published = await call.runtime.control.publish(
        first.tenant, first.adapter, content, first.activate, call.actor.key_id
    )
    return pb.PublishResponse(
        version=published.version,
        digest=published.digest,
        created=published.created,
        release=_release(published.release) if published.release else None,
    )


async def _content(
    call: Call, first: pb.PublishRequest, rest: AsyncIterator[pb.PublishRequest]
) -> bytes:
    limit = call.runtime.settings.max_upload_bytes
    parts, size = [first.content], len(first.content)
    async for message in rest:
        if message.tenant or message.adapter or message.activate:
            raise InvalidInput(
                "tenant, adapter and activate go in the first message; others have content alone"
            )
        size += len(message.content)
        if size > limit:
            break
        parts.append(message.content)
    if size > limit:
        raise TooLarge(f"the file has more than the {limit} bytes that an adapter file may have")
    call.is_received()
    return b"".join(parts)


async def list_adapters(call: Call, request: pb.ListAdaptersRequest) -> pb.ListAdaptersResponse:
    """List a tenant's adapters."""
    found = await call.runtime.control.list_adapters(request.tenant)
    return pb.ListAdaptersResponse(
        adapters=(
            pb.Adapter(
                name=each.name,
                latest_version=each.latest_version,
                release=_release(each.release) if each.release else None,
            )
            for each in found.adapters
        )
    )


async def list_versions(call: Call, request: pb.ListVersionsRequest) -> pb.ListVersionsResponse:
    """List an adapter's versions."""
    found = await call.runtime.control.list_versions(request.tenant, request.adapter)
    return pb.ListVersionsResponse(versions=map(_version, found.versions))


async def get_release(call: Call, request: pb.GetReleaseRequest) -> pb.Release:
    """Show which version answers."""
    return _release(await call.runtime.control.get_release(request.tenant, request.adapter))


async def set_release(call: Call, request: pb.SetReleaseRequest) -> pb.Release:
    """Let another version answer; with a revision, only if nobody changed it in the meantime."""
    expected = request.expected_revision if request.HasField("expected_revision") else None
    return _release(
        await call.runtime.control.set_release(
            request.tenant, request.adapter, request.stable, expected, call.actor.key_id
        )
    )


async def rollback(call: Call, request: pb.RollbackRequest) -> pb.Release:
    """Let the version before answer again; once more, the one before that."""
    expected = request.expected_revision if request.HasField("expected_revision") else None
    return _release(
        await call.runtime.control.rollback(
            request.tenant, request.adapter, expected, call.actor.key_id
        )
    )


def _release(release: schemas.ReleaseInfo) -> pb.Release:
    return pb.Release(stable=release.stable, revision=release.revision)


def _version(version: schemas.VersionInfo) -> pb.Version:
    return pb.Version(
        number=version.version,
        digest=version.digest,
        backbone=version.backbone,
        size=version.size,
        created_at=version.created_at,
        manifest=json.dumps(version.manifest, ensure_ascii=False),
    )
