"""The domain's errors. The type says whose fault it is; `code` is stable and public.

Messages are written for the caller: they say what is wrong, where, and what to do. Transports map
types to statuses in one table (`service/errors.py`); nothing here knows of HTTP or gRPC.
"""

from typing import ClassVar


class HeadstockError(Exception):
    """Base of everything that Headstock refuses or fails at."""

    code: ClassVar[str] = "internal"


class InvalidInput(HeadstockError):
    """The caller's request or arguments cannot be used as they are."""

    code = "invalid-input"


class InvalidName(InvalidInput):
    """A tenant's or adapter's name breaks the naming rule."""

    code = "invalid-name"


class InvalidAdapter(InvalidInput):
    """An adapter file breaks the format (`adapters/FORMAT.md`)."""

    code = "invalid-adapter"


class WrongBackbone(InvalidInput):
    """An adapter was trained on a backbone that is not served here."""

    code = "wrong-backbone"


class TooLarge(InvalidInput):
    """A body, a text or a list is over its limit."""

    code = "too-large"


class NotFound(HeadstockError):
    """The thing does not exist, or belongs to somebody else: the caller cannot tell which."""

    code = "not-found"


class Conflict(HeadstockError):
    """The change contradicts the present state."""

    code = "conflict"


class StaleRevision(Conflict):
    """A compare-and-set met another revision than the caller's."""

    code = "stale-revision"


class Unauthenticated(HeadstockError):
    """No key, or one that is not valid."""

    code = "unauthenticated"


class MissingScope(HeadstockError):
    """The key is valid and does not allow this."""

    code = "missing-scope"


class Overloaded(HeadstockError):
    """The server is full; the caller may try again after `retry_after_s` seconds."""

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TenantOverloaded(Overloaded):
    """The tenant has its share of what may wait; there is room for others."""

    code = "tenant-overloaded"


class RateLimited(Overloaded):
    """The tenant has had what its quota gives it in a minute."""

    code = "rate-limited"


class QuotaExceeded(HeadstockError):
    """The tenant has as much as its quota allows."""

    code = "quota-exceeded"


class DeadlineExceeded(HeadstockError):
    """The time that the caller gave is over."""

    code = "deadline-exceeded"


class RegistryUnavailable(HeadstockError):
    """The registry's database cannot be used now."""

    code = "registry-unavailable"
