"""Raw HTTP over real sockets: what is sent in which segments, and every answer that comes back."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.odd_requests import FOLLOWING, ODD, ODD_REQUESTS, OddRequest

SILENCE_S = 0.4  # with nothing coming, nothing more will
HONEST_S = 10.0  # by when an honest request is answered on any machine
MORE_S = 0.05  # for an answer too many
SEGMENT_S = 0.004
VICTIM = "victim"
HONEST_STATUS = 401  # of a request that is what it seems to be, and has no key


@dataclass(frozen=True)
class Answer:
    """A final answer. The server says which request it belongs to, and so does a proxy between."""

    status: int
    request_id: str | None
    proxied_id: str | None
    body: bytes


@dataclass(frozen=True)
class Outcome:
    """What an odd request got, and what a client with an honest one got right behind it."""

    odd: OddRequest
    segments: int
    answers: list[Answer]
    victim_id: str
    victim: list[Answer]

    def fault(self) -> str | None:
        """How client and server disagree about requests; None if they do not."""
        if len(self.answers) > self.odd.answers:
            return f"{len(self.answers)} answers to {self.odd.answers} requests"
        if {each.request_id for each in self.answers} - {ODD, FOLLOWING, None}:
            return "an answer to something that is no request"
        if [each.request_id for each in self.victim] != [self.victim_id]:
            return f"the next client got {self.victim}"
        return None

    def fault_behind_proxy(self) -> str | None:
        """How proxy and server disagree about requests; None if they do not.

        What is one request is the proxy's to say here: each gets an id from it.
        """
        for answer in (*self.answers, *self.victim):
            if answer.request_id not in (None, answer.proxied_id):
                return f"an answer to another request: {answer}"
        if [each.status for each in self.victim] != [HONEST_STATUS]:
            return f"the next client got {self.victim}"
        return None


def segmentations(content: bytes) -> list[list[bytes]]:
    """As a whole; cut behind the head; cut at three random places."""
    end = content.find(b"\r\n\r\n") + 4
    cuts = sorted(random.Random(content).sample(range(1, len(content)), min(3, len(content) - 1)))
    places = [0, *cuts, len(content)]
    pieces = [content[start:stop] for start, stop in itertools.pairwise(places)]
    return [[content], [each for each in (content[:end], content[end:]) if each], pieces]


async def exchange(
    port: int, segments: Sequence[bytes], expected: int, silence_s: float = SILENCE_S
) -> list[Answer]:
    """The answers to what is sent on a connection of its own: `expected` of them, or a few more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers: list[Answer] = []
    with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        for segment in segments:
            writer.write(segment)
            await writer.drain()
            await asyncio.sleep(SEGMENT_S)
        while True:
            patience = silence_s if len(answers) < expected else MORE_S
            has_body = bool(answers) or not segments[0].startswith(b"HEAD")
            answers += await asyncio.wait_for(_read(reader, has_body), patience)
    writer.transport.abort()
    return answers


async def _read(reader: asyncio.StreamReader, has_body: bool) -> list[Answer]:
    """The next answer; nothing for an interim one. That to HEAD has a length and no body."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, _, rest = head.decode("latin-1").partition("\r\n")
    status = int(first.split()[1])
    lines = (line.partition(":") for line in rest.splitlines() if line)
    headers = {name.lower(): value.strip() for name, _, value in lines}
    if status < 200:
        return []
    length = int(headers.get("content-length", 0))
    body = await reader.readexactly(length) if length and has_body else b""
    return [Answer(status, headers.get("x-request-id"), headers.get("x-proxied-id"), body)]


async def attack(port: int, odd: OddRequest, segments: Sequence[bytes], number: int) -> Outcome:
    """Send an odd request, and an honest one of another client right behind it."""
    answers = await exchange(port, segments, odd.answers)
    victim_id = f"{VICTIM}-{number}"
    honest = f"GET /v1/backbones HTTP/1.1\r\nHost: a\r\nX-Request-Id: {victim_id}\r\n\r\n"
    victim = await exchange(port, [honest.encode()], 1, HONEST_S)
    return Outcome(odd, len(segments), answers, victim_id, victim)


async def attack_all(port: int, at_once: int) -> list[Outcome]:
    """Every odd request in every segmentation."""
    places = asyncio.Semaphore(at_once)

    async def one(odd: OddRequest, segments: Sequence[bytes], number: int) -> Outcome:
        async with places:
            return await attack(port, odd, segments, number)

    pairs = [(odd, segments) for odd in ODD_REQUESTS for segments in segmentations(odd.content)]
    return await asyncio.gather(
        *(one(odd, segments, number) for number, (odd, segments) in enumerate(pairs))
    )
