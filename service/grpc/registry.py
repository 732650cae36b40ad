"""`headstock.v1.Registry`: uploads in pieces, versions and releases, as `/v1/tenants` has them."""

import json
from collections.abc import AsyncIterator
from io import BytesIO

from adapters.errors import InvalidInput, TooLarge
from service import schemas
from service.bounds import MOST_LISTED, USUALLY_LISTED
from service.call import Call
from service.protos import registry_pb2 as pb

# A message costs the event loop a tenth of a millisecond, however short it is.
_FREE_MESSAGES = 1024
_LEAST_PIECE_BYTES = 1024  # on average, of those beyond


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
    limit, budget = call.runtime.settings.max_upload_bytes, call.runtime.budgets.uploads
    room = await call.runtime.control.upload_room(first.tenant, first.adapter)
    joined = BytesIO()

    def add(content: bytes) -> None:
        size = joined.tell() + len(content)
        if size > limit:
            raise TooLarge(
                f"the file has more than the {limit} bytes that an adapter file may have"
            )
        room.check(size)
        call.account.cover(budget, size)
        joined.write(content)

    add(first.content)
    first.ClearField("content")  # else it would be kept twice
    n_messages = 1
    async for message in rest:
        n_messages += 1
        if n_messages > _FREE_MESSAGES + joined.tell() / _LEAST_PIECE_BYTES:
            raise InvalidInput(
                f"{n_messages} messages have brought {joined.tell()} bytes; send the file in "
                "larger pieces, such as 64 KiB each"
            )
        if message.tenant or message.adapter or message.activate:
            raise InvalidInput(
                "tenant, adapter and activate go in the first message; others have content alone"
            )
        add(message.content)
    call.is_received()
    return joined.getvalue()


async def list_adapters(call: Call, request: pb.ListAdaptersRequest) -> pb.ListAdaptersResponse:
    """List a tenant's adapters."""
    found = await call.runtime.control.list_adapters(
        request.tenant, _limit(request.limit), request.after or None
    )
    return pb.ListAdaptersResponse(
        next=found.next or "",
        adapters=(
            pb.Adapter(
                name=each.name,
                latest_version=each.latest_version or 0,
                release=_release(each.release) if each.release else None,
            )
            for each in found.adapters
        ),
    )


async def list_versions(call: Call, request: pb.ListVersionsRequest) -> pb.ListVersionsResponse:
    """List an adapter's versions, without their manifests."""
    found = await call.runtime.control.list_versions(
        request.tenant, request.adapter, _limit(request.limit), request.after or None
    )
    return pb.ListVersionsResponse(versions=map(_version, found.versions), next=found.next or 0)


async def get_version(call: Call, request: pb.GetVersionRequest) -> pb.Version:
    """Show one version with its manifest."""
    found = await call.runtime.control.get_version(request.tenant, request.adapter, request.version)
    version = _version(found)
    version.manifest = json.dumps(found.manifest, ensure_ascii=False)
    return version


async def delete_version(call: Call, request: pb.DeleteVersionRequest) -> pb.DeleteResponse:
    """Delete a version that is not released; its number is not given again."""
    await call.runtime.control.delete_version(
        request.tenant, request.adapter, request.version, call.actor.key_id
    )
    return pb.DeleteResponse()


async def delete_adapter(call: Call, request: pb.DeleteAdapterRequest) -> pb.DeleteResponse:
    """Delete an adapter with its versions and its release."""
    await call.runtime.control.delete_adapter(request.tenant, request.adapter, call.actor.key_id)
    return pb.DeleteResponse()


async def delete_tenant(call: Call, request: pb.DeleteTenantRequest) -> pb.DeleteResponse:
    """Delete a tenant with its keys, quota, adapters, versions and releases."""
    await call.runtime.control.delete_tenant(request.tenant, call.actor.key_id)
    return pb.DeleteResponse()


def _limit(limit: int) -> int:
    """How many of a list. Raises InvalidInput."""
    if not 0 <= limit <= MOST_LISTED:
        raise InvalidInput(f"limit must be from 1 to {MOST_LISTED}, or 0 for {USUALLY_LISTED}")
    return limit or USUALLY_LISTED


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


def _version(version: schemas.VersionRow) -> pb.Version:
    return pb.Version(
        number=version.version,
        digest=version.digest,
        backbone=version.backbone,
        size=version.size,
        created_at=version.created_at,
    )
