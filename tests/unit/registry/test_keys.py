import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import InvalidInput
from adapters.registry import new_key, parse_key, same_digest, secret_digest
from adapters.registry.keys import check_tenant_scopes

GOOD = "hs_abcdefgh1234_" + "0123456789abcdef" * 4


def test_new_key_parses_into_its_parts() -> None:
    key = new_key()
    assert parse_key(key.text) == (key.id, key.secret)
    assert re.fullmatch(r"[a-z0-9]{12}", key.id)
    assert len(bytes.fromhex(key.secret)) == 32


def test_new_keys_differ() -> None:
    keys = [new_key() for _ in range(100)]
    assert len({key.id for key in keys}) == len({key.secret for key in keys}) == 100


def test_secret_is_not_shown() -> None:
    key = new_key()
    assert key.secret not in repr(key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hs_",
        GOOD + "\n",
        " " + GOOD,
        GOOD.upper(),
        GOOD.replace("hs_", "sk_"),
        GOOD + "0",
        GOOD[:-1],
        GOOD[:-1] + "g",
        GOOD[:-1] + "F",
        GOOD[:-1] + "\N{ARABIC-INDIC DIGIT ONE}",
        GOOD.replace("abcdefgh1234", "short12"),
        GOOD.replace("abcdefgh1234", "a" * 17),
        GOOD.replace("abcdefgh1234", "abcd_fgh1234"),
        "hs_" + "a" * 1_000_000,
    ],
)
def test_anything_but_a_key_is_refused(text: str) -> None:
    assert parse_key(text) is None


@given(st.text())
def test_parse_never_fails(text: str) -> None:
    assert parse_key(text) is None
    assert parse_key(GOOD + text) is None or not text


def test_digest_is_sha256_and_takes_any_text() -> None:
    assert secret_digest("abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert len(secret_digest("\ud800 ü")) == 64


def test_same_digest() -> None:
    assert same_digest(secret_digest("a"), secret_digest("a"))
    assert not same_digest(secret_digest("a"), secret_digest("b"))
    assert not same_digest(secret_digest("a"), "é")


def test_scopes_come_in_one_order_each_once() -> None:
    assert check_tenant_scopes(["publish", "predict", "publish"]) == ("predict", "publish")


@pytest.mark.parametrize(
    "scopes", [[], ["admin"], ["predict", "admin"], ["write"], "predict", [""]]
)
def test_scopes_that_a_tenant_cannot_have(scopes: list[str]) -> None:
    with pytest.raises(InvalidInput, match="predict"):
        check_tenant_scopes(scopes)
