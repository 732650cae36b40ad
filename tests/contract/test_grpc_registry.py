"""`headstock.v1.Registry`: what is changed over gRPC is what HTTP shows."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from service.protos import registry_pb2 as pb
from tests.contract.grpc_support import Rpc, pieces
from tests.contract.support import INTENTS

ACME: dict[str, Any] = {"tenant": "acme", "adapter": "intents"}
BAD = grpc.StatusCode.INVALID_ARGUMENT


def upload(content: bytes, size: int = 1000, **more: Any) -> list[pb.PublishRequest]:
    """The messages of an upload to acme's adapter; the first has a piece too."""
    first, *rest = [pb.PublishRequest(content=piece) for piece in pieces(content, size)]
    first.MergeFrom(pb.PublishRequest(**{**ACME, **more}))
    return [first, *rest]


async def test_an_upload_in_pieces_is_a_version(rpc: Rpc) -> None:
    content = rpc.server.file(seed=3, labels=("x", "y"))
    key = rpc.server.keys["acme"]
    published = await rpc.call("Publish", *upload(content), key=key)
    assert (published.version, published.created) == (2, True)
    assert published.digest == hashlib.sha256(content).hexdigest()
    assert published.release.stable == 1  # nobody asked for another
    again = await rpc.call("Publish", *upload(content, size=10**6, activate=True), key=key)
    assert (again.version, again.created, again.release.stable) == (2, False, 2)
    answer = await rpc.server.predict("a")
    assert answer["adapter"]["digest"] == published.digest
    listed = await rpc.call("ListVersions", pb.ListVersionsRequest(**ACME), key=key)
    said = (await rpc.server.ok("GET", f"{INTENTS}/versions"))["versions"]
    for mine, its in zip(listed.versions, said, strict=True):
        assert [mine.number, mine.digest, mine.backbone, mine.size] == [
            its[name] for name in ("version", "digest", "backbone", "size")
        ]
        assert mine.manifest == ""
        whole = pb.GetVersionRequest(**ACME, version=mine.number)
        shown = await rpc.call("GetVersion", whole, key=key)
        its |= await rpc.server.ok("GET", f"{INTENTS}/versions/{mine.number}")
        assert json.loads(shown.manifest) == its["manifest"]
        assert mine.created_at.ToJsonString()[:19] == its["created_at"][:19]


async def test_an_adapter_begins_with_its_first_upload(rpc: Rpc) -> None:
    published = await rpc.call("Publish", *upload(rpc.server.file(), adapter="second"))
    assert (published.version, published.HasField("release")) == (1, False)
    found = await rpc.call("ListAdapters", pb.ListAdaptersRequest(tenant="acme"))
    assert [(each.name, each.latest_version) for each in found.adapters] == [
        ("intents", 1),
        ("second", 1),
    ]
    assert [each.HasField("release") for each in found.adapters] == [True, False]
    await rpc.refusal(
        grpc.StatusCode.NOT_FOUND,
        "GetRelease",
        pb.GetReleaseRequest(tenant="acme", adapter="second"),
    )


async def test_a_release_moves_back_and_forth(rpc: Rpc) -> None:
    await rpc.call("Publish", *upload(rpc.server.file(seed=5)))
    first = await rpc.call("GetRelease", pb.GetReleaseRequest(**ACME))
    assert (first.stable, first.revision) == (1, 1)
    moved = await rpc.call("SetRelease", pb.SetReleaseRequest(**ACME, stable=2))
    assert (moved.stable, moved.revision) == (2, 2)
    stale = pb.SetReleaseRequest(**ACME, stable=1, expected_revision=1)
    await rpc.refusal(grpc.StatusCode.ABORTED, "SetRelease", stale)
    await rpc.refusal(
        grpc.StatusCode.ABORTED, "Rollback", pb.RollbackRequest(**ACME, expected_revision=0)
    )
    back = await rpc.call("Rollback", pb.RollbackRequest(**ACME, expected_revision=2))
    assert back.stable == 1
    await rpc.refusal(grpc.StatusCode.FAILED_PRECONDITION, "Rollback", pb.RollbackRequest(**ACME))
    for stable in (0, -1, 3, 2**62):
        wanted = pb.SetReleaseRequest(**ACME, stable=stable)
        await rpc.refusal(grpc.StatusCode.NOT_FOUND, "SetRelease", wanted)


async def test_uploads_that_are_wrong_leave_nothing(rpc: Rpc) -> None:
    before, content = await rpc.server.state(), rpc.server.file(seed=3)
    late_name = [*upload(content), pb.PublishRequest(adapter="other")]
    await rpc.refusal(BAD, "Publish", *late_name)
    await rpc.refusal(BAD, "Publish")
    await rpc.refusal(BAD, "Publish", pb.PublishRequest(**ACME))
    await rpc.refusal(BAD, "Publish", *upload(content[:-1]))
    await rpc.refusal(BAD, "Publish", *upload(b"no adapter"))
    await rpc.refusal(BAD, "Publish", *upload(content, adapter="No Name"))
    await rpc.refusal(grpc.StatusCode.NOT_FOUND, "Publish", *upload(content, tenant="nobody"))
    assert await rpc.server.state() == before


async def test_an_upload_over_the_quota_is_refused(rpc: Rpc) -> None:
    await rpc.server.ok("PUT", "/v1/tenants/acme/quota", json={"versions": 1})
    full = grpc.StatusCode.RESOURCE_EXHAUSTED
    said = await rpc.refusal(full, "Publish", *upload(rpc.server.file(seed=3)))
    assert "2 versions" in said


async def test_a_file_that_is_too_long_is_refused_before_its_end(rpc: Rpc) -> None:
    """What an upload takes of memory is bounded, however long it goes on."""
    limit, sent = rpc.server.runtime.settings.max_upload_bytes, 0

    def endless() -> Iterator[pb.PublishRequest]:
        nonlocal sent
        yield pb.PublishRequest(**ACME)
        while True:
            sent += 2**20
            yield pb.PublishRequest(content=bytes(2**20))

    def upload_without_end() -> str:
        with grpc.insecure_channel(f"127.0.0.1:{rpc.served.port}") as channel:
            publish = channel.stream_unary(
                "/headstock.v1.Registry/Publish",
                pb.PublishRequest.SerializeToString,
                pb.PublishResponse.FromString,
            )
            metadata = (("authorization", f"Bearer {rpc.server.keys['acme']}"),)
            with pytest.raises(grpc.RpcError) as caught:
                publish(endless(), metadata=metadata)
            return str(caught.value)

    # Not gRPC's client for event loops: it takes an end before its own for an error of its own.
    said = await asyncio.to_thread(upload_without_end)
    assert "StatusCode.INVALID_ARGUMENT" in said
    assert str(limit) in said
    assert limit <= sent < 2 * limit


async def test_a_file_in_very_many_pieces_is_refused_before_its_end(rpc: Rpc) -> None:
    content = rpc.server.file(seed=4)
    pieces_of_one = upload(content * 10, size=1)
    said = await rpc.refusal(BAD, "Publish", *pieces_of_one)
    assert "1026 messages have brought 10" in said
    await rpc.call("Publish", *upload(content, size=10))


async def test_uploads_under_way_have_their_tenants_share(rpc: Rpc) -> None:
    budget = rpc.server.runtime.budgets.uploads
    content = rpc.server.file(seed=4)
    budget.total = len(content)
    # Alone a tenant may have half, in steps; and all of it is given back.
    said = await rpc.refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "Publish", *upload(content, size=50)
    )
    assert f"over its share of the {len(content)}" in said
    assert budget.lent == 0
    await rpc.refusal(BAD, "Publish", *upload(content[: len(content) // 3], size=50))


async def test_the_quota_ends_an_upload_before_its_bytes_are_there(rpc: Rpc) -> None:
    await rpc.server.ok("PUT", "/v1/tenants/acme/quota", json={"adapters": 1})
    n_sent = 0

    def endless() -> Iterator[pb.PublishRequest]:
        nonlocal n_sent
        yield pb.PublishRequest(tenant="acme", adapter="another")
        while True:
            n_sent += 1
            yield pb.PublishRequest(content=bytes(2**16))

    def publish() -> str:
        with grpc.insecure_channel(f"127.0.0.1:{rpc.served.port}") as channel:
            call = channel.stream_unary(
                "/headstock.v1.Registry/Publish",
                pb.PublishRequest.SerializeToString,
                pb.PublishResponse.FromString,
            )
            metadata = (("authorization", f"Bearer {rpc.server.keys['acme']}"),)
            with pytest.raises(grpc.RpcError) as caught:
                call(endless(), metadata=metadata)
            return str(caught.value)

    said = await asyncio.to_thread(publish)
    assert "2 adapters" in said
    assert n_sent < 100


@pytest.mark.parametrize("size", [0, 1, 100])
async def test_a_file_in_too_many_small_pieces_is_refused(rpc: Rpc, size: int) -> None:
    small = [pb.PublishRequest(content=bytes(size)) for _ in range(2000)]
    first = pb.PublishRequest(tenant="acme", adapter="new")
    assert "larger pieces" in await rpc.refusal(BAD, "Publish", first, *small)
