"""One call of gRPC as handlers see it: with a known principal and a time when it is given up."""

import time
from dataclasses import dataclass

from service.access import Principal
from service.patience import Patience, Reason
from service.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Call:
    """A call whose key has been checked; `principal` is None on methods that need no key.

    `deadline` is the `perf_counter` time when the answer is given up for being `late`.
    """

    runtime: Runtime
    principal: Principal | None
    patience: Patience
    deadline: float
    late: Reason
    facts: dict[str, object]  # for the log: nothing that a customer said

    @property
    def actor(self) -> Principal:
        """The principal, on methods that need a key."""
        assert self.principal is not None, "the method table asks for a key on this method"
        return self.principal

    def is_received(self) -> None:
        """The whole request is there: what is waited for from now on is its answer."""
        self.patience.extend(self.deadline - time.perf_counter(), self.late)
