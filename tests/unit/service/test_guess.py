"""What a body of some length is guessed to cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.admission import Load
from service.engine.guess import DOUBT, LEAST, LIKE, MOST_KNOWN, SURE, LoadGuess


def learned(*requests: tuple[int, Load]) -> LoadGuess:
    guess = LoadGuess()
    for body_bytes, load in requests:
        guess.learn("acme", "v1", body_bytes, load)
    return guess


def test_a_body_costs_what_such_bodies_cost() -> None:
    guess = learned((2000, Load(32, 500)))
    assert guess.load("acme", "v1", 2000) == Load(int(SURE * 32), int(SURE * 500))
    assert guess.load("acme", "v1", 1000) == Load(int(SURE * 16), int(SURE * 250))


@pytest.mark.parametrize("body_bytes", [0, int(LIKE * 2000) + 1, 10**6, 10**4000])
def test_a_body_of_no_or_another_length_is_read(body_bytes: int) -> None:
    """A chunked body announces no length; a long one may be one long text, which is cut."""
    assert learned((2000, Load(32, 500))).load("acme", "v1", body_bytes) == LEAST


def test_nothing_is_guessed_for_other_versions_and_tenants() -> None:
    guess = learned((2000, Load(32, 500)))
    assert guess.load("acme", "v2", 2000) == LEAST
    assert guess.load("globex", "v1", 2000) == LEAST


def test_a_guess_falls_at_once_and_rises_slowly() -> None:
    guess = learned((2000, Load(32, 500)), (2000, Load(1, 20)))
    assert guess.load("acme", "v1", 2000) == Load(1, int(SURE * 20))
    guess.learn("acme", "v1", 2000, Load(32, 500))
    assert guess.load("acme", "v1", 2000).tokens < 0.25 * 500


def test_a_wrong_guess_ends_with_a_closer_look() -> None:
    guess, fits = learned((2000, Load(32, 500))), 50
    refused = 0
    while guess.load("acme", "v1", 2000).tokens > fits:
        guess.doubt("acme", "v1")
        refused += 1
    assert 20 < refused < 60
    assert guess.load("acme", "v1", 2000).tokens > DOUBT * fits - 1
    guess.learn("acme", "v1", 2000, Load(32, 500))  # it was right
    assert guess.load("acme", "v1", 2000) == Load(int(SURE * 32), int(SURE * 500))
    guess.doubt("acme", "v2")  # of which nothing is known


def test_those_who_asked_last_are_remembered() -> None:
    guess = LoadGuess()
    for number in range(MOST_KNOWN + 1):
        guess.learn(f"tenant-{number}", "v1", 100, Load(2, 20))
        guess.learn("tenant-0", "v1", 100, Load(2, 20))
    assert guess.load("tenant-0", "v1", 100) != LEAST != guess.load("tenant-2", "v1", 100)
    assert guess.load("tenant-1", "v1", 100) == LEAST


loads = st.builds(Load, st.integers(1, 1000), st.integers(1, 10**5))


@given(st.lists(st.tuples(st.integers(1, 10**6), loads), min_size=1, max_size=9), st.integers(0))
def test_a_guess_is_on_the_low_side(requests: list[tuple[int, Load]], body_bytes: int) -> None:
    """No denser than any request since, and no larger than the longest body that it is for."""
    load = learned(*requests).load("acme", "v1", body_bytes)
    last_bytes, last = requests[-1]
    assert 1 <= load.rows <= max(1, last.rows * body_bytes / last_bytes)
    assert 1 <= load.tokens <= max(1, last.tokens * body_bytes / last_bytes)
