"""Bytes of bodies under way: bounded in all and for each tenant, and lent before they are read."""

from types import TracebackType
from typing import Final, Self

from adapters.errors import Overloaded, TenantOverloaded
from service.access import Principal
from service.settings import Settings
from service.shares import Shares

_STEPS: Final = 256  # of a budget, by which a body of unknown length is lent more
_BODIES: Final = 16  # longest JSON bodies at once


class ByteBudget(Shares):
    """Memory for one kind of bodies."""

    def __init__(self, total: int, kind: str) -> None:
        super().__init__(total)
        self.kind = kind


class Budgets:
    """Memory for adapter files and for JSON bodies: neither can take the place of the other."""

    def __init__(self, settings: Settings) -> None:
        self.uploads = ByteBudget(settings.upload_budget, "uploads")
        self.bodies = ByteBudget(_BODIES * settings.max_body_bytes, "long bodies")


class Account:
    """What one request has been lent; all of it is given back at the end of the context."""

    def __init__(self, principal: Principal | None) -> None:
        self._holder = principal and principal.holder
        self._lent: dict[ByteBudget, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for budget, amount in self._lent.items():
            budget.give_back(self._holder, amount)
        self._lent.clear()

    def cover(self, budget: ByteBudget, size: int) -> None:
        """Be lent `size` bytes in all, and more in steps where there is no end in sight.

        Raises:
            TenantOverloaded: the tenant has its share.
            Overloaded: there is no room for anybody.
        """
        lent = self._lent.get(budget, 0)
        if size <= lent:
            return
        wanted = max(size - lent, budget.total // _STEPS if lent else 0)
        if not budget.take(self._holder, wanted):
            raise _refusal(budget, budget.held(self._holder), wanted)
        self._lent[budget] = lent + wanted


def _refusal(budget: ByteBudget, held: int, wanted: int) -> Overloaded:
    if wanted > budget.free:
        return Overloaded(
            f"{budget.kind} of {budget.lent} bytes are under way, and the server has room for "
            f"{budget.total}; {wanted} more do not fit: try again in a moment"
        )
    return TenantOverloaded(
        f"{budget.kind} of {held} bytes of this tenant are under way, and {wanted} more would be "
        f"over its share of the {budget.total} that the server has room for; try again when some "
        "of them are done"
    )
