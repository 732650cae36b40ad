"""What a request is charged with: its tenant's quota before the work, its usage after."""

from collections.abc import Sequence

from backbone import BackboneError, TextRow
from service.ask import Ask
from service.engine import Engine, Job
from service.engine.job import Answers
from service.errors import AdapterUnavailable
from service.rates import Rates
from service.usage import Usage


class Charging:
    """Has engines answer on a tenant's account."""

    def __init__(self, rates: Rates, usage: Usage) -> None:
        self._rates = rates
        self._usage = usage

    def take_request(self, tenant: str) -> None:
        """Count a request before any work is done for it. Raises RateLimited."""
        self._rates.take_request(tenant)

    def add_request(self, tenant: str) -> None:
        """A request was answered."""
        self._usage.add(tenant, requests=1)

    async def answer(
        self, ask: Ask, engine: Engine, rows: Sequence[TextRow], jobs: Sequence[Job]
    ) -> list[list[Answers]]:
        """For each job of one request, for each row, its answers.

        Raises:
            RateLimited: the tenant has no tokens left for them.
            AdapterUnavailable: the backbone failed.
            HeadstockError: as `Engine.answer`.
        """
        tenant, tokens = jobs[0].tenant, sum(row.length for row in rows)
        self._rates.take_tokens(tenant, tokens * len(jobs))
        ask.facts.update(rows=len(rows), tokens=tokens)
        try:
            answers = await engine.answer(rows, *jobs)
        except BackboneError as error:
            raise AdapterUnavailable(f"the backbone cannot answer: {error}") from error
        finally:
            ask.facts.update(jobs[0].times.told())
        cost = sum(job.cost(len(rows), tokens) for job in jobs)
        self._usage.add(tenant, rows=len(rows), tokens=tokens, cost=cost)
        return answers
