"""What a request will cost, guessed before it is read or tokenized. Pure: no clock, no I/O.

To tokenize a request costs ten times what it costs to refuse it, so under a flood most of the work
would be for what is refused after all. A guess rests on the same tenant's latest requests, since
languages differ by a factor of ten, and it is on the low side: what would fit is looked at closely.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from service.engine.admission import Load

SURE: Final = 0.9  # of what is guessed is reckoned with
LIKE: Final = 1.5  # times the usual size: a longer body may be another kind of request
LEAST: Final = Load(1, 1)  # any request has that
_SMOOTHING = 0.2  # weight of the newest request
_MOST_TENANTS = 10_000  # those who asked last


class TokenGuess:
    """Tokens a character of each tenant's latest texts; no text has more than `max_length`."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._per_char: dict[str, float] = {}

    def learn(self, tenant: str, chars: int, tokens: int) -> None:
        """Texts of `chars` characters in all had so many tokens."""
        now = tokens / max(1, chars)
        before = self._per_char.pop(tenant, now)
        self._per_char[tenant] = before + _SMOOTHING * (now - before)  # at the end: the latest
        if len(self._per_char) > _MOST_TENANTS:
            del self._per_char[next(iter(self._per_char))]

    def tokens(self, tenant: str, texts: Sequence[str]) -> int:
        """Tokens that `texts` have in all, on the low side; one each where nothing is known."""
        per_char, most = SURE * self._per_char.get(tenant, 0.0), self._max_length
        return sum([min(most, max(1, int(per_char * len(text)))) for text in texts])


class _Usual(NamedTuple):
    """A request as they are lately."""

    bytes: float
    rows: float
    tokens: float


class LoadGuess:
    """The load of requests for an adapter by the length of their bodies, from its latest ones."""

    def __init__(self) -> None:
        self._usual: dict[tuple[str, str], _Usual] = {}

    def learn(self, tenant: str, adapter: str, body_bytes: int, load: Load) -> None:
        """A body of so many bytes had this load."""
        now = _Usual(body_bytes, load.rows, load.tokens)
        before = self._usual.pop((tenant, adapter), now)
        smoothed = [b + _SMOOTHING * (n - b) for b, n in zip(before, now, strict=True)]
        self._usual[tenant, adapter] = _Usual(*smoothed)  # at the end: the latest
        if len(self._usual) > _MOST_TENANTS:
            del self._usual[next(iter(self._usual))]

    def load(self, tenant: str, adapter: str, body_bytes: int) -> Load:
        """The load of such a body, on the low side; the least where it is not like the others."""
        usual = self._usual.get((tenant, adapter))
        if usual is None or not 0 < body_bytes <= LIKE * usual.bytes:
            return LEAST
        part = SURE * body_bytes / usual.bytes
        return Load(max(1, int(part * usual.rows)), max(1, int(part * usual.tokens)))
