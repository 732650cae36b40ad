"""Environment variables that begin like settings: which are unset, which are no settings."""

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Final

PREFIX: Final = "HEADSTOCK_"
# What Kubernetes gives every container of a namespace, and Docker every linked one, for a Service
# called `headstock` or `headstock-…`: HEADSTOCK_PORT=tcp://10.0.0.1:8000, HEADSTOCK_SERVICE_HOST …
_LINK: Final = re.compile(r"(tcp|udp|sctp)://\S+")
_LINK_NAME: Final = re.compile(
    r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$"
)
# Variables of the clients, which a server may be started beside.
_CLIENTS: Final = frozenset({"HEADSTOCK_SERVER", "HEADSTOCK_KEY"})


def is_unset(name: str, value: str) -> bool:
    """Tell whether a variable counts as unset: it is empty, or a port that links to a Service."""
    return not value.strip() or (name.lower().endswith("port") and bool(_LINK.fullmatch(value)))


def remarks(environment: Mapping[str, str], settings: Collection[str]) -> Iterator[str]:
    """A sentence for each variable that is not used and looks as if it should be.

    `settings` are the names of the variables that are.
    """
    for name, value in sorted(environment.items()):
        if not name.startswith(PREFIX) or not value.strip() or name in _CLIENTS:
            continue
        if name in settings:
            if is_unset(name, value):
                yield (
                    f"{name}={value} is a link to a Service of Kubernetes, not a port: it is "
                    "ignored, and the default is used; set enableServiceLinks: false in the pod, "
                    f"or {name} to a number"
                )
        elif not _LINK_NAME.search(name):
            near = get_close_matches(name, settings, 1)
            yield f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
