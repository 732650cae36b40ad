"""What the app notes of a request for the connection that it came by."""

from collections.abc import Mapping, MutableMapping
from typing import Any, Final

_AUTHENTICATED: Final = "headstock.authenticated"


def note_authenticated(scope: MutableMapping[str, Any]) -> None:
    """The request has a valid key."""
    scope[_AUTHENTICATED] = True


def is_authenticated(scope: Mapping[str, object]) -> bool:
    """Whether the request is known to have a valid key."""
    return _AUTHENTICATED in scope
