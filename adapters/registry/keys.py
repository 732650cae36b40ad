"""API keys: `hs_<id>_<secret>`, made, parsed and hashed. Pure but for the random source."""

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from adapters.errors import InvalidInput

Scope = Literal["predict", "publish", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

_ID_ALPHABET: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 12
_SECRET_BYTES: Final = 32

_ID = re.compile(r"[a-z0-9]{8,16}", re.ASCII)
# Hexadecimal has no underscore and no hyphen: a key parses in one way only, and a double click
# selects all of it.
_KEY = re.compile(r"hs_([a-z0-9]{8,16})_([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the only moment at which its secret is known."""

    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """What the caller sends: `hs_<id>_<secret>`."""
        return f"hs_{self.id}_{self.secret}"


def new_key() -> NewKey:
    """Make a key with a 256-bit secret."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    return NewKey(key_id, secrets.token_hex(_SECRET_BYTES))


def parse_key(text: str) -> tuple[str, str] | None:
    """Split a key into its id and its secret; None for anything that is not exactly a key."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def is_key_id(text: str) -> bool:
    """Whether `text` could be the id of a key."""
    return _ID.fullmatch(text) is not None


def secret_digest(secret: str) -> str:
    """SHA-256 of a secret, 64 hex digits; unsalted, since 256 random bits cannot be guessed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same_digest(left: str, right: str) -> bool:
    """Compare two hex digests in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


def check_tenant_scopes(scopes: Collection[str]) -> tuple[Scope, ...]:
    """Return the scopes in their fixed order, each once.

    Raises:
        InvalidInput: none given, an unknown one, or one that a tenant's key cannot have.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise InvalidInput("a key needs one or both of the scopes predict and publish")
    if "admin" in scopes:
        raise InvalidInput("a tenant's key cannot have the scope admin: use predict or publish")
    return tuple(scope for scope in SCOPES if scope in scopes)
