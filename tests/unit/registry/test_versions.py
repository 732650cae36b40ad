import sqlite3
from pathlib import Path

import pytest

from adapters.errors import InvalidInput, InvalidName, NotFound, RegistryUnavailable
from adapters.registry import AdapterInfo, Registry, Release, Version
from tests.unit.registry.support import BACKBONE, START, publish, sha256


def test_first_version_makes_the_adapter(registry: Registry) -> None:
    published = publish(registry, b"one")
    expected = Version(1, sha256(b"one"), BACKBONE, 3, START, '{"size": 3}')
    assert (published.version, published.created, published.release) == (expected, True, None)
    assert registry.get_version("acme", "intents", 1) == expected
    assert registry.read_content(expected.digest) == b"one"
    assert registry.list_adapters("acme") == [AdapterInfo("intents", 1, None)]
    assert registry.get_release("acme", "intents") is None


def test_numbers_grow_by_adapter(registry: Registry) -> None:
    numbers = [publish(registry, bytes([n])).version.number for n in range(3)]
    assert numbers == [1, 2, 3]
    assert publish(registry, b"x", adapter="topics").version.number == 1
    assert [v.number for v in registry.list_versions("acme", "intents")] == [1, 2, 3]


def test_same_bytes_are_the_same_version(registry: Registry) -> None:
    first = publish(registry, b"one")
    publish(registry, b"two")
    head = registry.head()
    again = publish(registry, b"one")
    assert (again.version, again.created) == (first.version, False)
    assert registry.head() == head


def test_two_tenants_may_publish_the_same_bytes(registry: Registry) -> None:
    publish(registry, b"one")
    assert publish(registry, b"one", tenant="other").created
    assert registry.read_content(sha256(b"one")) == b"one"


def test_activate_releases_once(registry: Registry) -> None:
    first = publish(registry, b"one", activate=True)
    assert first.release == Release(1, 1, None, START)
    assert publish(registry, b"one", activate=True).release == first.release
    assert publish(registry, b"two").release == first.release
    known_but_not_stable = publish(registry, b"two", activate=True)
    assert known_but_not_stable.release == Release(2, 2, 1, START)
    assert not known_but_not_stable.created


def test_content_must_match_its_digest(registry: Registry) -> None:
    for digest, backbone in [("0" * 64, BACKBONE), (sha256(b"one"), "short"), ("", BACKBONE)]:
        with pytest.raises(InvalidInput, match="digest"):
            registry.publish(
                "acme",
                "intents",
                digest=digest,
                backbone=backbone,
                manifest="{}",
                content=b"one",
                activate=True,
                actor="tester",
            )
    assert registry.list_adapters("acme") == []


def test_publish_needs_a_tenant_and_good_names(registry: Registry) -> None:
    with pytest.raises(NotFound):
        publish(registry, b"one", tenant="nobody")
    with pytest.raises(InvalidName):
        publish(registry, b"one", adapter="No/Good")
    with pytest.raises(InvalidName):
        publish(registry, b"one", tenant="../etc")
    assert registry.head().seq == 2


def test_anothers_adapter_looks_like_none(registry: Registry) -> None:
    publish(registry, b"one", tenant="other", adapter="secret")
    messages = set()
    for tenant, adapter in [("acme", "secret"), ("acme", "missing"), ("nobody", "secret")]:
        for ask in (registry.list_versions, registry.get_release):
            with pytest.raises(NotFound) as caught:
                ask(tenant, adapter)
            messages.add(str(caught.value).replace(f"{tenant}/{adapter}", "T/A"))
    assert messages == {"there is no adapter T/A"}


@pytest.mark.parametrize("number", [0, -1, 2, 2**31, 2**63, 10**3000])
def test_unknown_versions(registry: Registry, number: int) -> None:
    publish(registry, b"one")
    with pytest.raises(NotFound, match="no version") as caught:
        registry.get_version("acme", "intents", number)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("digest", ["0" * 64, "", "\ud800", "x" * 10**6])
def test_unknown_content(registry: Registry, digest: str) -> None:
    with pytest.raises(NotFound):
        registry.read_content(digest)


def test_damaged_bytes_are_never_returned(registry: Registry, path: Path) -> None:
    publish(registry, b"one")
    raw = sqlite3.connect(path)
    raw.execute("UPDATE versions SET content = x'00'")
    raw.commit()
    raw.close()
    with pytest.raises(RegistryUnavailable, match="damaged"):
        registry.read_content(sha256(b"one"))


def test_listing_shows_the_release_in_force(registry: Registry) -> None:
    assert registry.list_adapters("acme") == []
    publish(registry, b"one", adapter="zeta")
    for content in (b"one", b"two", b"three"):
        publish(registry, content, activate=content != b"three")
    assert registry.list_adapters("acme") == [
        AdapterInfo("intents", 3, Release(2, 2, 1, START)),
        AdapterInfo("zeta", 1, None),
    ]
    with pytest.raises(NotFound):
        registry.list_adapters("nobody")
