"""The path under which a proxy shows the server, such as `/models` of `https://example.com/models`.

Some proxies take it off before they send a request on, others leave it. Who takes it off may say so
in `X-Forwarded-Prefix`. Any client can send that header: so it is only ever said back to the one
who sent it, in the two answers that name paths, and only if it is a plain path on the same host.
"""

from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from service.root_path import read_prefix

HEADER: Final = "X-Forwarded-Prefix"


def public_prefix(scope: Scope, root_path: str) -> str:
    """Return the prefix of the client's paths, "" if none is known; the setting comes first."""
    given = Headers(scope=scope).getlist(HEADER)
    return root_path or (read_prefix(given[0]) if len(given) == 1 else None) or ""


def without_prefix(scope: Scope, root_path: str) -> Scope:
    """The request as a proxy would send it that takes `root_path` off."""
    raw: bytes | None = scope.get("raw_path")
    if not root_path or raw is None:
        return scope
    prefix = root_path.encode("ascii")
    if raw != prefix and not raw.startswith(prefix + b"/"):
        return scope
    path: str = scope["path"]
    return {
        **scope,
        "raw_path": raw[len(prefix) :] or b"/",
        "path": path[len(root_path) :] or "/",
    }
