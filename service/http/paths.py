"""Which routes a path has. Its own few lines, since Starlette asks route by route: 2 µs, not 60.

Paths are read as they were sent: a slash that is written %2F is part of a parameter, and names are
not read under other spellings, so that a proxy's rules for paths mean what they say.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote, unquote

from starlette.types import Scope

T = TypeVar("T")


@dataclass(slots=True)
class _Node(Generic[T]):
    """One segment of paths: what follows by name or as a parameter, and what ends here."""

    names: dict[str, "_Node[T]"] = field(default_factory=dict)
    parameter: "_Node[T] | None" = None
    found: dict[str, T] = field(default_factory=dict)  # by method


def sent_path(scope: Scope) -> str:
    """The path of a request as the client spelled it, without the query."""
    raw: bytes | None = scope.get("raw_path")
    return quote(scope["path"]) if raw is None else raw.decode("latin-1")


class Paths(Generic[T]):
    """Path templates such as `/v1/tenants/{tenant}` with a value for each method."""

    def __init__(self, apart: Collection[str] = ()) -> None:
        """`apart` are names that may stand where a parameter does, since none has such a value."""
        self._apart = apart
        self._root: _Node[T] = _Node()

    def add(self, template: str, method: str, value: T) -> None:
        """Add one method of one template.

        Raises:
            ValueError: a name and a parameter could both be meant at one place.
        """
        node = self._root
        for segment in template.split("/"):
            is_parameter = segment.startswith("{")
            others = node.names if is_parameter else ({segment} if node.parameter else ())
            if not set(others) <= set(self._apart):
                raise ValueError(f"{template}: another template has a {segment!r} of other kind")
            if is_parameter:
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.names.setdefault(segment, _Node())
        node.found[method] = value

    def find(self, path: str) -> tuple[Mapping[str, T], Sequence[str]]:
        """The values by method and the parameters in the template's order; none if none has it.

        `path` is as it was sent, percent signs included. A parameter is one segment that is not
        empty, decoded.
        """
        node, parameters = self._root, []
        for segment in path.split("/"):
            named = node.names.get(segment)
            if named is not None:
                node = named
            elif node.parameter is not None and segment:
                node = node.parameter
                parameters.append(unquote(segment) if "%" in segment else segment)
            else:
                return {}, ()
        return node.found, parameters
