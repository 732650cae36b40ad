"""What a request is to the handlers of every transport."""

import time
from dataclasses import dataclass

from service.access import Principal
from service.ask import Ask
from service.patience import Patience, Reason
from service.runtime import Runtime
from service.uploads import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request whose key has been checked; `principal` is None where none is asked for.

    `deadline` is the `perf_counter` time when the answer is given up for being `late`.
    """

    runtime: Runtime
    principal: Principal | None
    patience: Patience
    deadline: float
    late: Reason
    account: Account  # of the bytes that its body takes
    facts: dict[str, object]  # for the log: nothing that a customer said

    @property
    def actor(self) -> Principal:
        """The principal, where a key is asked for."""
        assert self.principal is not None, "the tables say where a key is asked for"
        return self.principal

    def ask(self, body_bytes: int = 0, *, is_charged: bool) -> Ask:
        """The same, as the pipeline takes it."""
        return Ask(self.actor, self.deadline, body_bytes, is_charged, self.facts)

    def is_received(self) -> None:
        """The whole request is there: what is waited for from now on is its answer."""
        self.patience.extend(self.deadline - time.perf_counter(), self.late)
