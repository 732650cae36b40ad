"""Steps that no answer may depend on."""

import logging
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

logger = logging.getLogger(__name__)


def attempt(step: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do a step; its failure is logged and changes nothing else.

    A request that is answered, or a change that is committed, stays so if it cannot be counted.
    """
    try:
        step(*args, **kwargs)
    except Exception:
        name = getattr(step, "__qualname__", "a step")
        logger.exception("%s failed; no answer depends on it", name)
