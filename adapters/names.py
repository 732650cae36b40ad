"""The one naming rule for tenants and adapters."""

import re

from adapters.errors import InvalidName

# ASCII only, so that no look-alike letter, path separator or dot can ever be part of a name.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def check_name(kind: str, value: str) -> str:
    """Return `value` if it is a valid name; `kind` ("tenant", "adapter") goes into the message.

    Raises:
        InvalidName: otherwise.
    """
    if not is_name(value):
        shown = ascii(value if len(value) <= 80 else value[:80] + "…")
        raise InvalidName(
            f"{kind} name {shown} is not valid: use 1 to 63 of the letters a-z, the digits 0-9 and "
            "inner hyphens"
        )
    return value


def is_name(value: str) -> bool:
    """Whether a tenant or an adapter can be called so."""
    return _NAME.fullmatch(value) is not None
