from datetime import timedelta

import pytest

from adapters.errors import Conflict, InvalidInput, InvalidName, NotFound, Unauthenticated
from adapters.registry import AuditRow, CacheMode, Registry, Tenant, parse_key, secret_digest
from tests.unit.registry.support import START, Clock


def test_tenants_are_listed_by_name(empty: Registry) -> None:
    assert empty.list_tenants() == []
    assert empty.create_tenant("zeta", actor="admin") == Tenant("zeta", START)
    empty.create_tenant("acme", actor="admin")
    assert [tenant.name for tenant in empty.list_tenants()] == ["acme", "zeta"]


def test_times_come_back_aware_and_exact(empty: Registry) -> None:
    empty.create_tenant("acme", actor="admin")
    stored = empty.list_tenants()[0].created_at
    assert stored == START
    assert stored.utcoffset() is not None


def test_a_name_is_taken_once(registry: Registry) -> None:
    with pytest.raises(Conflict, match="acme"):
        registry.create_tenant("acme", actor="admin")
    assert registry.head().seq == 2


@pytest.mark.parametrize("name", ["", "A", "a_b", "a/b", "-a", "a" * 64, "a\n", "ä"])
def test_bad_names_are_refused(registry: Registry, name: str) -> None:
    with pytest.raises(InvalidName):
        registry.create_tenant(name, actor="admin")
    with pytest.raises(InvalidName):
        registry.list_keys(name)


def test_a_key_is_kept_as_a_digest_only(registry: Registry) -> None:
    info, text = registry.create_key("acme", ["publish", "predict"], actor="admin")
    parsed = parse_key(text)
    assert parsed is not None
    assert parsed[0] == info.id
    assert info.scopes == ("predict", "publish")
    [live] = registry.read_tenants(["acme"]).tenants["acme"].keys
    assert (live.id, live.secret_sha256) == (info.id, secret_digest(parsed[1]))
    assert registry.list_keys("acme") == [info]
    assert parsed[1] not in str(registry.list_audit())


@pytest.mark.parametrize("scopes", [[], ["admin"], ["root"]])
def test_bad_scopes_are_refused(registry: Registry, scopes: list[str]) -> None:
    with pytest.raises(InvalidInput):
        registry.create_key("acme", scopes, actor="admin")
    assert registry.list_keys("acme") == []


def test_two_live_keys_at_most(registry: Registry) -> None:
    first, _ = registry.create_key("acme", ["predict"], actor="admin")
    registry.create_key("acme", ["predict"], actor="admin")
    with pytest.raises(Conflict, match="revoke one"):
        registry.create_key("acme", ["predict"], actor="admin")
    registry.create_key("other", ["predict"], actor="admin")
    registry.revoke_key("acme", first.id, actor="admin")
    registry.create_key("acme", ["predict"], actor="admin")
    assert len(registry.list_keys("acme")) == 3


def test_a_key_ends_when_its_time_is_over(registry: Registry, clock: Clock) -> None:
    hour = timedelta(hours=1)
    info, _ = registry.create_key("acme", ["predict"], lifetime=hour, actor="admin")
    assert info.expires_at == clock.now + hour
    [live] = registry.read_tenants(["acme"]).tenants["acme"].keys
    assert live.expires_at == info.expires_at
    clock.advance()
    registry.create_key("acme", ["predict"], actor="admin")
    with pytest.raises(Conflict):
        registry.create_key("acme", ["predict"], actor="admin")
    clock.now += hour
    registry.create_key("acme", ["predict"], actor="admin")  # there is room for one again
    assert registry.list_keys("acme")[0] == info  # what it was stays to be seen


def test_a_rotated_key_has_the_scopes_of_the_old_one_which_ends_later(
    registry: Registry, clock: Clock
) -> None:
    day = timedelta(days=1)
    old, _ = registry.create_key("acme", ["publish"], actor="admin")
    clock.advance()
    new, text = registry.rotate_key("acme", old.id, overlap=day, lifetime=30 * day, actor="k")
    assert (new.scopes, new.expires_at) == (("publish",), clock.now + 30 * day)
    assert text.startswith(f"hs_{new.id}_")
    [first, _] = registry.list_keys("acme")
    assert (first.id, first.expires_at, first.revoked_at) == (old.id, clock.now + day, None)
    made, rotated = registry.list_audit("acme", limit=2)
    assert (rotated.action, rotated.actor) == ("key.rotate", "k")
    assert rotated.detail == {"key": old.id, "overlap_s": 86_400}
    assert (made.action, made.detail["key"]) == ("key.create", new.id)
    with pytest.raises(Conflict):
        registry.rotate_key("acme", new.id, overlap=day, actor="k")
    clock.now += day
    live = registry.read_tenants(["acme"]).tenants["acme"].keys
    assert [key.expires_at for key in live] == [clock.now, new.expires_at]
    with pytest.raises(NotFound):
        registry.rotate_key("acme", old.id, overlap=day, actor="k")


def test_a_rotation_never_makes_a_key_live_longer(registry: Registry, clock: Clock) -> None:
    hour = timedelta(hours=1)
    old, _ = registry.create_key("acme", ["predict"], lifetime=hour, actor="admin")
    clock.advance()
    registry.rotate_key("acme", old.id, overlap=24 * hour, actor="admin")
    assert registry.list_keys("acme")[0].expires_at == old.expires_at


def test_a_rotation_with_no_overlap_ends_the_old_key_at_once(
    registry: Registry, clock: Clock
) -> None:
    old, _ = registry.create_key("acme", ["predict"], actor="admin")
    registry.create_key("acme", ["publish"], actor="admin")
    new, _ = registry.rotate_key("acme", old.id, overlap=timedelta(), actor="admin")
    live = registry.read_tenants(["acme"]).tenants["acme"].keys
    assert old.id not in [key.id for key in live]
    assert new.id in [key.id for key in live]
    with pytest.raises(NotFound):
        registry.rotate_key("other", new.id, overlap=timedelta(), actor="admin")
    with pytest.raises(NotFound):
        registry.rotate_key("acme", "no such", overlap=timedelta(), actor="admin")


def test_revoking_is_idempotent(registry: Registry, clock: Clock) -> None:
    info, _ = registry.create_key("acme", ["predict"], actor="admin")
    clock.advance()
    registry.revoke_key("acme", info.id, actor="admin")
    revoked_at, head = clock.now, registry.head()
    clock.advance()
    registry.revoke_key("acme", info.id, actor="admin")
    assert registry.list_keys("acme")[0].revoked_at == revoked_at
    assert registry.head() == head
    assert registry.read_tenants(["acme"]).tenants["acme"].keys == ()


def test_anothers_key_looks_like_none(registry: Registry) -> None:
    theirs, _ = registry.create_key("other", ["predict"], actor="admin")
    admin = registry.ensure_admin_key()
    assert admin is not None
    messages = set()
    for key_id in (theirs.id, admin.split("_")[1], "nosuchkey123", "", "\ud800", "x" * 10**6):
        with pytest.raises(NotFound) as caught:
            registry.revoke_key("acme", key_id, actor="admin")
        messages.add(str(caught.value))
    assert len(messages) == 1
    assert registry.list_keys("other")[0].revoked_at is None


def test_keys_need_their_tenant(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.create_key("nobody", ["predict"], actor="admin")
    with pytest.raises(NotFound):
        registry.list_keys("nobody")
    with pytest.raises(NotFound):
        registry.revoke_key("nobody", "nosuchkey123", actor="admin")


def test_the_admin_key_is_made_once(empty: Registry) -> None:
    text = empty.ensure_admin_key()
    assert text is not None
    assert empty.ensure_admin_key() is None
    parsed = parse_key(text)
    [key] = empty.read_tenants([]).admin_keys
    assert parsed == (key.id, parsed[1] if parsed else "")
    assert key.scopes == ("admin",)
    [row] = empty.list_audit()
    assert (row.actor, row.action, row.tenant) == ("setup", "key.create", None)


def test_a_feature_cache_is_off_until_its_tenant_consents(registry: Registry) -> None:
    assert registry.get_feature_cache("acme") == "off"
    assert registry.set_feature_cache("acme", "own", actor="root") == "own"
    assert registry.set_feature_cache("other", "shared", actor="root") == "shared"
    states = registry.read_tenants().tenants
    assert {name: state.feature_cache for name, state in states.items()} == {
        "acme": "own",
        "other": "shared",
    }
    assert registry.get_feature_cache("acme") == "own"
    assert registry.set_feature_cache("acme", "off", actor="root") == "off"
    assert registry.read_tenants(["acme"]).tenants["acme"].feature_cache == "off"
    assert registry.get_feature_cache("other") == "shared"


def test_a_consent_is_one_row_of_the_audit_trail(registry: Registry, clock: Clock) -> None:
    before = registry.head()
    modes: tuple[CacheMode, ...] = ("off", "shared", "shared", "own")
    for mode in modes:
        clock.advance()
        registry.set_feature_cache("acme", mode, actor="root")
    second, first = registry.list_audit("acme", limit=2)
    assert first == AuditRow(
        before.seq + 1,
        START + 2 * (clock.now - START) / 4,
        "root",
        "tenant.feature_cache",
        "acme",
        None,
        {"mode": "shared", "previous": "off"},
    )
    assert (second.seq, second.detail) == (before.seq + 2, {"mode": "own", "previous": "shared"})
    assert registry.head().seq == before.seq + 2
    changes = registry.changes_since(before, 10)
    assert changes is not None
    assert [change.tenant for change in changes] == ["acme", "acme"]


@pytest.mark.parametrize("mode", ["", "on", "OWN", "own ", "\ud800", "x" * 10**6])
def test_a_mode_that_is_none_is_refused(registry: Registry, mode: str) -> None:
    with pytest.raises(InvalidInput, match="use off, own or shared") as caught:
        registry.set_feature_cache("acme", mode, actor="admin")
    assert len(str(caught.value)) < 200
    assert registry.head().seq == 2


def test_a_feature_cache_needs_its_tenant(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.get_feature_cache("nobody")
    with pytest.raises(NotFound):
        registry.set_feature_cache("nobody", "own", actor="admin")
    with pytest.raises(InvalidName):
        registry.set_feature_cache("No body", "own", actor="admin")


def test_a_key_that_a_clock_ahead_takes_for_expired_is_read_all_the_same(
    registry: Registry, clock: Clock
) -> None:
    info, _ = registry.create_key("acme", ["predict"], lifetime=timedelta(hours=1), actor="admin")
    clock.now += timedelta(days=365)
    [read] = registry.read_tenants().tenants["acme"].keys
    assert (read.id, read.expires_at) == (info.id, info.expires_at)


def test_a_key_that_was_revoked_since_it_was_checked_changes_nothing(registry: Registry) -> None:
    info, _ = registry.create_key("acme", ["publish"], actor="admin")
    registry.set_feature_cache("acme", "own", actor=info.id)
    registry.revoke_key("acme", info.id, actor="admin")
    with pytest.raises(Unauthenticated, match="revoked"):
        registry.set_feature_cache("acme", "off", actor=info.id)
    assert registry.get_feature_cache("acme") == "own"
