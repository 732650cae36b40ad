from benchmarks.job import Job, Stream, Target
from benchmarks.load import OpenLoop
from benchmarks.wire import Connection


class Silent(Connection):
    """Takes requests and answers none."""

    def send(self, _: bytes, intended: float) -> None:
        self.intended = intended


class Few(OpenLoop):
    """On connections that lead nowhere."""

    async def connect(self) -> Connection:
        return Silent(self)


async def test_requests_that_were_not_sent_in_the_grace_never_are() -> None:
    """Else those sent at its very end would count as never answered."""
    stream = Stream([Target("a", "x", "key")], ["one"], rate=10.0)
    loop = Few(stream, Job("127.0.0.1", 1, [stream], seconds=1.0))
    await loop.prepare()
    loop._due.extend([0.0, 0.1])
    connection = await loop.connect()
    loop.free(connection, 0.0)
    assert (loop.under_way, loop.waiting) == (1, 1)
    assert loop.is_busy()
    loop.stop()
    loop.answered(connection, 0.0, "503", True)
    assert (loop.under_way, loop.waiting) == (0, 1)
    assert not loop.is_busy()
    outcome = loop.outcome(1.0, 1)
    assert (outcome.unanswered, outcome.unsent) == (0, 1)
    loop._alarm.close()
