"""Who is asking, and what for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from adapters.errors import MissingScope, NotFound, Unauthenticated
from adapters.names import check_name
from adapters.registry import Scope, parse_key, same_digest, secret_digest
from service.directory import Directory

# Of a route. "any": a key, with whatever scope. "metrics": its own or an admin's, where one is set.
Need = Scope | Literal["any", "metrics"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A key's holder. `tenant` is None for admin keys, which may act for every tenant."""

    key_id: str
    tenant: str | None
    scopes: frozenset[str]

    @property
    def is_admin(self) -> bool:
        """Whether this is an operator's key."""
        return self.tenant is None and "admin" in self.scopes

    @property
    def holder(self) -> tuple[str, str]:
        """Who has what is lent to this key's requests: its tenant, or an operator's key itself."""
        return ("key", self.key_id) if self.tenant is None else ("tenant", self.tenant)


class Keyring:
    """Checks keys against the directory, and against the admin key of the settings if there is one.

    An admin key in the settings stands in place of the one made at first start.
    """

    def __init__(
        self,
        directory: Directory,
        admin_key: str | None,
        metrics_key: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._admin_digest = None if admin_key is None else secret_digest(admin_key)
        self._metrics_digest = None if metrics_key is None else secret_digest(metrics_key)

    def authenticate(self, authorization: str | None) -> Principal:
        """The principal of an `Authorization` header. Raises Unauthenticated."""
        principal = self._principal(_bearer(authorization))
        if principal is None:
            raise Unauthenticated("the key is not valid: unknown, mistyped, expired or revoked")
        return principal

    def authenticate_scraper(self, authorization: str | None) -> Principal | None:
        """Who reads metrics; None where all may. Raises Unauthenticated, MissingScope."""
        if self._metrics_digest is None:
            return None
        if same_digest(secret_digest(_bearer(authorization)), self._metrics_digest):
            return Principal("metrics", None, frozenset({"metrics"}))
        principal = self.authenticate(authorization)
        if not principal.is_admin:
            raise MissingScope("metrics need the key of HEADSTOCK_METRICS_KEY, or an admin's")
        return principal

    def _principal(self, text: str) -> Principal | None:
        admin = self._admin_digest
        if admin is not None and same_digest(secret_digest(text), admin):
            return Principal("admin", None, frozenset({"admin"}))
        parsed = parse_key(text)
        found = parsed and self._directory.key(parsed[0])
        if not parsed or not found:
            return None
        tenant, key = found
        if not same_digest(secret_digest(parsed[1]), key.secret_sha256):
            return None
        if tenant is None and admin is not None:
            return None
        if key.expires_at is not None and key.expires_at <= self._clock():
            return None
        return Principal(key.id, tenant, frozenset(key.scopes))


def one_authorization(values: Sequence[str]) -> str | None:
    """The `Authorization` of a request that names it at most once. Raises Unauthenticated.

    Of several a proxy before this server may have checked another one than this would.
    """
    if len(values) > 1:
        raise Unauthenticated(f"the request has {len(values)} headers Authorization; send one")
    return values[0] if values else None


def _bearer(authorization: str | None) -> str:
    # Of HTTP's white space a scheme is followed by spaces alone (RFC 9110, 11.4); tabs may stand
    # around the whole. `str.strip()` would take U+00A0 and others off a key.
    scheme, _, text = (authorization or "").strip(" \t").partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise Unauthenticated("send a key as 'Authorization: Bearer <key>'")
    return text.lstrip(" ")


def authorize(principal: Principal, tenant: str | None, scope: Need) -> None:
    """Let `principal` do what needs `scope`, on `tenant`'s things where the path names one.

    Raises:
        InvalidName: no tenant can have this name.
        NotFound: another tenant's, told apart from "does not exist" by nobody.
        MissingScope: its own, and the key lacks the scope.
    """
    if tenant is not None:
        check_name("tenant", tenant)
    if principal.is_admin:
        return
    if tenant is not None and tenant != principal.tenant:
        raise NotFound(f"no tenant {tenant!r}")
    if scope != "any" and scope not in principal.scopes:
        raise MissingScope(f"this needs a key with the scope {scope!r}")
