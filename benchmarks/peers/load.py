"""A small closed-loop client: each of several clients sends its next request after its answer."""

import http.client
import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """A POST."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for the request at `place` of those sent."""

    place: int
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """All answers, and the seconds from the first request to the last answer."""

    seconds: float
    answers: list[Answer]


def closed_loop(port: int, requests: Sequence[Request], clients: int, seconds: float) -> Load:
    """Send `requests` round and round for `seconds`; client k takes every `clients`-th from k on.

    Answers are kept as bytes: reading them is for afterwards, off the clock.

    Raises:
        OSError, http.client.HTTPException: a connection failed.
    """
    answers: list[Answer] = []
    failures: list[Exception] = []
    started = time.perf_counter()

    def send(first: int) -> None:
        mine = itertools.cycle(range(first, len(requests), clients))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
        try:
            while time.perf_counter() - started < seconds and not failures:
                answers.append(_ask(connection, requests, next(mine)))
        except (OSError, http.client.HTTPException) as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return Load(time.perf_counter() - started, answers)


def send_once(port: int, requests: Sequence[Request]) -> list[Answer]:
    """Each request once, one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        return [_ask(connection, requests, place) for place in range(len(requests))]
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, requests: Sequence[Request], place: int) -> Answer:
    request = requests[place]
    headers = {"Content-Type": "application/json", **request.headers}
    connection.request("POST", request.path, request.body, headers)
    response = connection.getresponse()
    return Answer(place, response.status, response.read())
