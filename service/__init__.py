"""Request to answer: BentoML shell, HTTP, routing, engine, metrics.

`bentoml serve service:Headstock` finds the service here; it is imported only when asked for, so
that bentoml stays out of everything else.
"""

from typing import Any

import backbone  # noqa: F401  # before any library that would report to its maker

VERSION = "0.1.0"  # here, since a packed service has the source and no metadata of a package


def __getattr__(name: str) -> Any:
    if name == "Headstock":
        from service.app import Headstock

        return Headstock
    raise AttributeError(f"module 'service' has no attribute {name!r}")
