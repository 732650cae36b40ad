"""What a request will cost, guessed by the length of its body. Pure: no clock, no I/O.

To read and tokenize a request costs ten times what it costs to refuse it, so under a flood most of
the work would be for what is refused after all. A guess rests on the latest requests of the same
tenant to the same version, and what it refuses makes it doubted: a wrong one is soon looked at.
"""

from typing import Final, NamedTuple

from service.engine.admission import Load

SURE: Final = 0.9  # of what is guessed is reckoned with
LIKE: Final = 1.5  # times the usual size: a longer body may be another kind of request
DOUBT: Final = 0.95  # a refusal leaves so much of a guess
LEAST: Final = Load(1, 1)  # any request has that
MOST_KNOWN: Final = 10_000  # tenants' versions: those asked last
_SMOOTHING = 0.2  # weight of the newest request


class _Usual(NamedTuple):
    """A request as they are lately: its size, its load a byte, and how much of that is believed."""

    bytes: float
    rows: float
    tokens: float
    trust: float


class LoadGuess:
    """The load of a tenant's requests to a version, by the length of their bodies."""

    def __init__(self) -> None:
        self._usual: dict[tuple[str, str], _Usual] = {}

    def learn(self, tenant: str, version: str, body_bytes: int, load: Load) -> None:
        """A body of so many bytes, above 0, had this load."""
        now = _Usual(body_bytes, load.rows / body_bytes, load.tokens / body_bytes, SURE)
        before = self._usual.pop((tenant, version), now)
        self._usual[tenant, version] = _Usual(  # at the end: the latest
            before.bytes + _SMOOTHING * (now.bytes - before.bytes),
            _low(before.rows, now.rows),
            _low(before.tokens, now.tokens),
            SURE,
        )
        if len(self._usual) > MOST_KNOWN:
            del self._usual[next(iter(self._usual))]

    def load(self, tenant: str, version: str, body_bytes: int) -> Load:
        """The load of such a body, on the low side; the least where it is not like the others."""
        usual = self._usual.get((tenant, version))
        if usual is None or not 0 < body_bytes <= LIKE * usual.bytes:
            return LEAST
        believed = usual.trust * body_bytes
        return Load(max(1, int(believed * usual.rows)), max(1, int(believed * usual.tokens)))

    def doubt(self, tenant: str, version: str) -> None:
        """A guess has refused a request, unread: nothing was learned of whether it was right."""
        if usual := self._usual.get((tenant, version)):
            self._usual[tenant, version] = usual._replace(trust=DOUBT * usual.trust)


def _low(before: float, now: float) -> float:
    """Down at once and up slowly."""
    return min(now, before + _SMOOTHING * (now - before))
