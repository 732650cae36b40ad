"""What asks the pipeline, whatever transport it came by."""

from dataclasses import dataclass, field

from adapters.names import is_name
from service.access import Principal


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks, and until when: `deadline` is a `perf_counter` time.

    `body_bytes` is how long the request was as it came, for guesses at the next ones; 0 where that
    is not known. `is_charged`: the quota of the key's or the path's tenant was charged for it
    before it was parsed. `facts` go into the request's line in the log: nothing that a customer
    said.
    """

    principal: Principal
    deadline: float | None = None
    body_bytes: int = 0
    is_charged: bool = False
    facts: dict[str, object] = field(default_factory=dict)


def loggable(tenant: str | None, adapter: str | None) -> dict[str, object]:
    """A tenant and an adapter for the log, where they are names that such things can have."""
    named = {"tenant": tenant, "adapter": adapter}
    return {what: name for what, name in named.items() if name and is_name(name)}
