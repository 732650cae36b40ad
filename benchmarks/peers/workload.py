"""The requests of the comparison, and whether what came back is right."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.peers.load import Answer, Request, closed_loop, send_once
from benchmarks.peers.peer import Asked, Tenant, Unavailable
from benchmarks.peers.tenants import Truth

SIZES = (32, 1)
CLIENTS = 8
SECONDS = 5.0
_WARM_REQUESTS = 6  # of 32 texts, a tenant: buffers have their size after the first few


@dataclass(frozen=True, slots=True)
class Question:
    """A tenant and the texts that it asks of in one request."""

    tenant: Tenant
    texts: list[str]


def questions(tenants: Sequence[Tenant], texts: Sequence[str], size: int) -> list[Question]:
    """Every text for every tenant, `size` at a time, tenants in turn.

    With as many clients as tenants, each client asks as one tenant.
    """
    rounds = []
    for start in range(0, len(texts), size):
        rows = list(itertools.islice(itertools.cycle(texts), start, start + size))
        rounds += [Question(tenant, rows) for tenant in tenants]
    return rounds


def large_requests(tenants: Sequence[Tenant], texts: Sequence[str]) -> list[Question]:
    """A few of the largest requests of each tenant, so that what it takes in memory is taken."""
    return [
        each
        for tenant in tenants
        for each in questions([tenant], texts, max(SIZES))[:_WARM_REQUESTS]
    ]


def send_all(asked: Asked, port: int, some: Sequence[Question]) -> None:
    """Each question once, one after the other. Raises Unavailable where one fails."""
    _refuse_failures(send_once(port, _requests(asked, some)))


def rows_a_second(asked: Asked, port: int, truth: Truth, round_robin: Sequence[Question]) -> float:
    """Rows answered a second, all of them right.

    Raises:
        Unavailable: a request failed or a label is wrong; nobody is fast by being wrong.
    """
    load = closed_loop(port, _requests(asked, round_robin), CLIENTS, SECONDS)
    _refuse_failures(load.answers)
    for answer in load.answers:
        question = round_robin[answer.place]
        said = asked.labels(question.tenant, answer.body)
        if said != truth.labels(question.tenant, question.texts):
            raise Unavailable(f"answers {question.tenant.name} wrongly: {answer.body[:200]!r}")
    return sum(len(round_robin[answer.place].texts) for answer in load.answers) / load.seconds


def _requests(asked: Asked, some: Iterable[Question]) -> list[Request]:
    return [asked.request(each.tenant, each.texts) for each in some]


def _refuse_failures(answers: Iterable[Answer]) -> None:
    for answer in answers:
        if answer.status != 200:
            raise Unavailable(f"answers with {answer.status}: {answer.body[:300]!r}")
