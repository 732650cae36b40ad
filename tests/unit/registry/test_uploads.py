"""Long files in parts: a version has all of them, and nobody sees them before, or keeps a rest."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from adapters.errors import NotFound, QuotaExceeded, RegistryUnavailable
from adapters.registry import Published, Quota, Registry
from tests.unit.registry.support import BACKBONE, Clock, sha256

PARTS = [b"first " * 1000, b"second " * 500, b"third"]
CONTENT = b"".join(PARTS)


def store(registry: Registry, name: str, parts: list[bytes]) -> None:
    registry.begin_upload(name)
    for number, part in enumerate(parts):
        registry.add_part(name, number, part)


def publish(registry: Registry, upload: str, adapter: str = "intents") -> Published:
    return registry.publish(
        "acme",
        adapter,
        digest=sha256(CONTENT),
        backbone=BACKBONE,
        manifest="{}",
        content=CONTENT,
        activate=False,
        actor="tester",
        upload=upload,
    )


def n_parts(path: Path) -> int:
    with closing(sqlite3.connect(path)) as raw:
        return int(raw.execute("SELECT count(*) FROM parts").fetchone()[0])


def test_a_version_has_the_bytes_of_its_parts(registry: Registry, path: Path) -> None:
    head = registry.head()
    store(registry, "one", PARTS)
    assert registry.head() == head  # nothing is to be followed yet
    with pytest.raises(NotFound):
        registry.read_content(sha256(CONTENT))
    version = publish(registry, "one").version
    assert (version.number, version.size) == (1, len(CONTENT))
    assert registry.read_content(sha256(CONTENT)) == CONTENT
    registry.drop_upload("one")  # which is a version's now
    assert registry.read_content(sha256(CONTENT)) == CONTENT
    assert n_parts(path) == 3
    assert registry.holdings("acme").bytes == len(CONTENT)


def test_bytes_that_are_a_version_already_are_dropped(registry: Registry, path: Path) -> None:
    store(registry, "one", PARTS)
    publish(registry, "one")
    store(registry, "two", PARTS)
    assert not publish(registry, "two").created
    assert n_parts(path) == 3


@pytest.mark.parametrize("parts", [[], PARTS[:2], [*PARTS, b"more"]])
def test_no_version_is_made_of_other_parts(registry: Registry, parts: list[bytes]) -> None:
    store(registry, "one", parts)
    with pytest.raises(RegistryUnavailable, match="upload the file again"):
        publish(registry, "one")
    with pytest.raises(RegistryUnavailable):
        publish(registry, "never-begun")
    with pytest.raises(NotFound):
        registry.list_versions("acme", "intents")


def test_an_upload_that_is_given_up_leaves_nothing(registry: Registry, path: Path) -> None:
    store(registry, "one", PARTS)
    registry.drop_upload("one")
    assert n_parts(path) == 0


def test_an_abandoned_upload_is_swept_away_by_a_later_one(
    registry: Registry, path: Path, clock: Clock
) -> None:
    store(registry, "old", PARTS)
    clock.advance(3000)
    store(registry, "young", PARTS)
    assert n_parts(path) == 6
    clock.advance(1000)
    store(registry, "third", PARTS)
    assert n_parts(path) == 6
    with pytest.raises(RegistryUnavailable):
        publish(registry, "old")
    publish(registry, "young")


def test_the_room_for_an_upload_is_what_the_quota_leaves(registry: Registry) -> None:
    registry.upload_room("acme", "intents", 2**40).check(2**40)
    with pytest.raises(NotFound):
        registry.upload_room("nobody", "intents")
    store(registry, "one", PARTS)
    publish(registry, "one")
    size = len(CONTENT)
    registry.set_quota("acme", Quota(bytes=size + 10), actor="admin")
    registry.upload_room("acme", "intents", 10).check(10)
    with pytest.raises(QuotaExceeded, match=f"{size + 11} bytes"):
        registry.upload_room("acme", "intents", 11)
    with pytest.raises(QuotaExceeded, match=f"may have {size + 10}"):
        registry.upload_room("acme", "intents").check(11)
    for quota, adapter in ((Quota(versions=1), "another"), (Quota(adapters=1), "another")):
        registry.set_quota("acme", quota, actor="admin")
        with pytest.raises(QuotaExceeded):
            registry.upload_room("acme", adapter, 1)
        with pytest.raises(QuotaExceeded):
            registry.upload_room("acme", adapter)


def test_bytes_that_are_there_already_need_no_room(registry: Registry) -> None:
    store(registry, "one", PARTS)
    publish(registry, "one")
    registry.set_quota("acme", Quota(versions=1), actor="admin")
    registry.upload_room("acme", "intents", len(CONTENT)).check(len(CONTENT))
    with pytest.raises(QuotaExceeded):
        registry.upload_room("acme", "intents", len(CONTENT) - 1)
    with pytest.raises(QuotaExceeded):
        registry.upload_room("acme", "another", len(CONTENT))
    with pytest.raises(QuotaExceeded):
        registry.upload_room("acme", "intents").check(len(CONTENT) + 1)


def test_it_is_known_which_bytes_are_a_version(registry: Registry) -> None:
    digest = sha256(CONTENT)
    assert not registry.has_version("acme", "intents", digest)
    store(registry, "one", PARTS)
    publish(registry, "one")
    assert registry.has_version("acme", "intents", digest)
    for tenant, adapter, other in (
        ("other", "intents", digest),
        ("acme", "else", digest),
        ("acme", "intents", sha256(b"")),
        ("nobody", "intents", digest),
    ):
        assert not registry.has_version(tenant, adapter, other)
