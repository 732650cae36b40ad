from datetime import timedelta

import pytest

from adapters.errors import HeadstockError, InvalidName, MissingScope, NotFound, Unauthenticated
from adapters.registry import LiveKey, new_key, secret_digest
from service.access import Keyring, Need, Principal, authorize, one_authorization
from service.directory import Directory
from tests.unit.service.support import START, key, snapshot, tenant

ROOT, ACME, OTHER = new_key(), new_key(), new_key()
SETTINGS_KEY = "a secret that an operator chose himself"
# What `str.strip()` takes for white space and HTTP does not, as far as a header can carry it.
UNICODE_SPACES = ("\xa0", "\x85", "\x1c", "\x1d", "\x1e", "\x1f", "\x0b", "\x0c", "\n", "\r")

ADMIN = Principal("root", None, frozenset({"admin"}))
PREDICTS = Principal("p", "acme", frozenset({"predict"}))
PUBLISHES = Principal("u", "acme", frozenset({"publish"}))
BOTH = Principal("b", "acme", frozenset({"predict", "publish"}))


@pytest.fixture
def directory() -> Directory:
    directory = Directory()
    directory.update(
        snapshot(
            1,
            (key(ROOT.id, "admin", secret_sha256=secret_digest(ROOT.secret)),),
            acme=tenant(key(ACME.id, "predict", secret_sha256=secret_digest(ACME.secret))),
            other=tenant(key(OTHER.id, "publish", secret_sha256=secret_digest(OTHER.secret))),
        )
    )
    return directory


def test_a_key_is_its_tenants_principal(directory: Directory) -> None:
    keyring = Keyring(directory, None)
    assert keyring.authenticate(f"Bearer {ACME.text}") == Principal(
        ACME.id, "acme", frozenset({"predict"})
    )
    assert keyring.authenticate(f"bearer  {OTHER.text} ").tenant == "other"
    for around in (" \tBearer {}\t ", "Bearer   {}", "bEARER {}"):
        assert keyring.authenticate(around.format(ACME.text)).tenant == "acme"
    root = keyring.authenticate(f"BEARER {ROOT.text}")
    assert root == Principal(ROOT.id, None, frozenset({"admin"}))
    assert root.is_admin


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        ACME.text,
        f"Basic {ACME.text}",
        f"Bearer {ACME.text[:-1]}",
        f"Bearer {ACME.text}0",
        f"Bearer {ACME.text.upper()}",
        f"Bearer hs_{ACME.id}_{OTHER.secret}",
        f"Bearer hs_{new_key().id}_{ACME.secret}",
        f"Bearer {ACME.id}",
        f"Bearer {secret_digest(ACME.secret)}",
        f"Bearer {SETTINGS_KEY}",
        "Bearer \ud800",
        "Bearer " + "x" * 100_000,
        f"Bearer\t{ACME.text}",
        f"Bearer \t{ACME.text}",
        *(f"Bearer {space}{ACME.text}" for space in UNICODE_SPACES),
        *(f"Bearer {ACME.text}{space}" for space in UNICODE_SPACES),
        *(f"{space}Bearer {ACME.text}" for space in UNICODE_SPACES),
    ],
    ids=[
        str(number) for number in range(18 + 3 * len(UNICODE_SPACES))
    ],  # keys are new each time, and names must not be
)
def test_anything_but_a_live_key_is_refused_alike(directory: Directory, header: str | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        Keyring(directory, None).authenticate(header)
    assert "Authorization: Bearer" in str(caught.value) or "not valid" in str(caught.value)


def test_of_several_authorizations_none_counts() -> None:
    assert one_authorization([]) is None
    assert one_authorization(["Bearer x"]) == "Bearer x"
    with pytest.raises(Unauthenticated, match="2 headers"):
        one_authorization(["Bearer x", "Bearer x"])


def test_a_revoked_key_is_refused_at_once(directory: Directory) -> None:
    keyring = Keyring(directory, None)
    keyring.authenticate(f"Bearer {ACME.text}")
    directory.update(snapshot(2, (), acme=tenant()))
    with pytest.raises(Unauthenticated):
        keyring.authenticate(f"Bearer {ACME.text}")


def test_an_admin_key_of_the_settings_stands_in_place_of_the_stored_one(
    directory: Directory,
) -> None:
    keyring = Keyring(directory, SETTINGS_KEY)
    assert keyring.authenticate(f"Bearer {SETTINGS_KEY}").is_admin
    with pytest.raises(Unauthenticated):
        keyring.authenticate(f"Bearer {ROOT.text}")
    assert keyring.authenticate(f"Bearer {ACME.text}").tenant == "acme"
    with pytest.raises(Unauthenticated):
        keyring.authenticate(f"Bearer {SETTINGS_KEY[:-1]}")


# For each principal: the tenant of the path, the scope of the route, what comes of it.
MATRIX: list[tuple[Principal, str | None, Need, type[HeadstockError] | None]] = [
    *((ADMIN, name, scope, None) for name in (None, "acme", "other") for scope in ("predict",)),
    *((ADMIN, name, "publish", None) for name in (None, "acme", "other")),
    *((ADMIN, name, "admin", None) for name in (None, "acme", "other")),
    *((ADMIN, name, "any", None) for name in (None, "acme", "other")),
    (PREDICTS, "acme", "predict", None),
    (PREDICTS, "acme", "any", None),
    (PREDICTS, None, "any", None),
    (PREDICTS, None, "predict", None),
    (PREDICTS, "acme", "publish", MissingScope),
    (PREDICTS, "acme", "admin", MissingScope),
    (PREDICTS, None, "admin", MissingScope),
    (PUBLISHES, "acme", "publish", None),
    (PUBLISHES, "acme", "any", None),
    (PUBLISHES, "acme", "predict", MissingScope),
    (PUBLISHES, None, "predict", MissingScope),
    (BOTH, "acme", "predict", None),
    (BOTH, "acme", "publish", None),
    (BOTH, "acme", "admin", MissingScope),
    *((who, "other", "any", NotFound) for who in (PREDICTS, PUBLISHES, BOTH)),
    *((who, "other", "predict", NotFound) for who in (PREDICTS, PUBLISHES, BOTH)),
    *((who, "other", "publish", NotFound) for who in (PREDICTS, PUBLISHES, BOTH)),
    *((who, "other", "admin", NotFound) for who in (PREDICTS, PUBLISHES, BOTH)),
    *((who, "Acme", "any", InvalidName) for who in (ADMIN, BOTH)),
    *((who, "../acme", "any", InvalidName) for who in (ADMIN, BOTH)),
]


@pytest.mark.parametrize(("principal", "tenant_name", "scope", "refusal"), MATRIX)
def test_who_may_do_what(
    principal: Principal,
    tenant_name: str | None,
    scope: Need,
    refusal: type[HeadstockError] | None,
) -> None:
    if refusal is None:
        authorize(principal, tenant_name, scope)
        return
    with pytest.raises(refusal) as caught:
        authorize(principal, tenant_name, scope)
    assert type(caught.value) is refusal


def test_a_tenants_key_with_the_word_admin_is_no_admin() -> None:
    odd = Principal("x", "acme", frozenset({"admin"}))
    assert not odd.is_admin
    with pytest.raises(NotFound):
        authorize(odd, "other", "any")


def test_no_tenant_of_others_is_told_apart_from_none() -> None:
    texts = []
    for name in ("other", "nobody"):
        with pytest.raises(NotFound) as caught:
            authorize(BOTH, name, "predict")
        texts.append(str(caught.value).replace(name, ""))
    assert texts[0] == texts[1]


def test_a_clock_that_is_set_right_brings_a_key_back(directory: Directory) -> None:
    ends = START + timedelta(hours=1)
    own = LiveKey(ACME.id, secret_digest(ACME.secret), ("predict",), ends)
    directory.update(snapshot(2, (), acme=tenant(own)))
    times = [ends, START]
    keyring = Keyring(directory, None, clock=lambda: times[0])
    with pytest.raises(Unauthenticated):
        keyring.authenticate(f"Bearer {ACME.text}")
    del times[0]
    assert keyring.authenticate(f"Bearer {ACME.text}").tenant == "acme"
