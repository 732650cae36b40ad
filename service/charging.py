"""What a request is charged with: its tenant's quota before the work, its usage after."""

from collections.abc import Sequence

from adapters.errors import Overloaded, TooLarge
from backbone import BackboneError, TextRow
from service.ask import Ask
from service.engine import Engine, Job
from service.engine.job import Answers, Times
from service.errors import AdapterUnavailable
from service.rates import Rates
from service.usage import Usage


class Charging:
    """The accounts of all tenants."""

    def __init__(self, rates: Rates, usage: Usage) -> None:
        self._rates = rates
        self._usage = usage

    def check_request(self, tenant: str) -> None:
        """Whether the quota has a request left, before its body is read. Raises RateLimited."""
        self._rates.check_request(tenant)

    def take_request(self, tenant: str) -> None:
        """Of the quota, before any work is done for it. Raises RateLimited."""
        self._rates.take_request(tenant)

    def give_back_request(self, tenant: str) -> None:
        """One that was taken, and that the server is too full for."""
        self._rates.give_back_request(tenant)

    def take_tokens(self, tenant: str, tokens: int) -> None:
        """Of the quota, before they are computed. Raises RateLimited."""
        self._rates.take_tokens(tenant, tokens)

    async def compute(
        self, ask: Ask, engine: Engine, rows: Sequence[TextRow], jobs: Sequence[Job], times: Times
    ) -> list[list[Answers]]:
        """What an engine answers to rows whose tokens were taken, which counts as used.

        The time is added to what `times` holds of the same request, and told to the log. Tokens of
        rows that the engine does not let in are given back: who is told to try again, or to send
        less, shall have them then.

        Raises:
            AdapterUnavailable: the backbone failed.
            HeadstockError: as `Engine.answer`.
        """
        tenant, tokens = jobs[0].tenant, count_tokens(rows)
        try:
            answers = await engine.answer(rows, *jobs, times=times)
        except (Overloaded, TooLarge):
            self._rates.give_back_tokens(tenant, tokens * len(jobs))
            raise
        except BackboneError as error:
            raise AdapterUnavailable(f"the backbone cannot answer: {error}") from error
        finally:
            ask.facts.update(times.told())
        cost = sum(job.cost(len(rows), tokens) for job in jobs)
        truncated = len(find_truncated(rows))
        self._usage.add(tenant, rows=len(rows), tokens=tokens, truncated=truncated, cost=cost)
        return answers

    def count_request(self, tenant: str) -> None:
        """One more was answered."""
        self._usage.add(tenant, requests=1)


def count_tokens(rows: Sequence[TextRow]) -> int:
    """Sum the tokens of all rows."""
    return sum(row.length for row in rows)


def find_truncated(rows: Sequence[TextRow]) -> list[int]:
    """Return the positions of the rows whose texts were longer than the backbone reads."""
    return [position for position, row in enumerate(rows) if row.truncated]
