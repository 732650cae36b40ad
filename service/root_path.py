"""The path under which a proxy shows the server: what may be one."""

import re
from typing import Final

_MOST_CHARS: Final = 256
# No `//`, which would begin with another host, no `.` or `..`, nothing to be escaped.
_PREFIX: Final = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", re.ASCII)


def read_prefix(text: str) -> str | None:
    """`/models` of `/models/`, "" of `/` and of nothing, None of what is not a plain path."""
    prefix = text.strip().removesuffix("/")
    if len(prefix) <= _MOST_CHARS and (not prefix or _PREFIX.fullmatch(prefix)):
        return prefix
    return None
