import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.admission import Load
from service.engine.guess import _MOST_TENANTS, LEAST, LIKE, SURE, LoadGuess, TokenGuess


def learned(*requests: tuple[int, Load]) -> LoadGuess:
    guess = LoadGuess()
    for body_bytes, load in requests:
        guess.learn("acme", "intent", body_bytes, load)
    return guess


def test_texts_of_a_tenant_that_nobody_knows_have_a_token_each() -> None:
    assert TokenGuess(128).tokens("acme", ["a" * 1000, ""]) == 2


def test_a_tenants_texts_are_reckoned_with_its_own_characters() -> None:
    guess = TokenGuess(128)
    guess.learn("english", 1000, 250)
    guess.learn("chinese", 1000, 1000)
    assert guess.tokens("english", ["a" * 80] * 2) == 2 * int(SURE * 20)
    assert guess.tokens("chinese", ["a" * 80]) == int(SURE * 80)
    assert guess.tokens("other", ["a" * 80]) == 1


def test_no_text_is_guessed_to_be_longer_than_the_backbone_takes() -> None:
    guess = TokenGuess(128)
    guess.learn("acme", 100, 100)
    assert guess.tokens("acme", ["a" * 10**6, "a" * 10]) == 128 + int(SURE * 10)


def test_texts_of_no_characters_teach_and_cost_something() -> None:
    guess = TokenGuess(128)
    guess.learn("acme", 0, 2)
    assert guess.tokens("acme", [""]) == 1


def test_a_body_costs_what_such_bodies_cost() -> None:
    guess = learned((2000, Load(32, 500)))
    assert guess.load("acme", "intent", 2000) == Load(int(SURE * 32), int(SURE * 500))
    assert guess.load("acme", "intent", 1000) == Load(int(SURE * 16), int(SURE * 250))


@pytest.mark.parametrize("body_bytes", [0, int(LIKE * 2000) + 1, 10**6])
def test_a_body_of_no_or_another_length_is_read(body_bytes: int) -> None:
    """A chunked body announces no length; a long one may be one long text, which is cut."""
    assert learned((2000, Load(32, 500))).load("acme", "intent", body_bytes) == LEAST


def test_nothing_is_guessed_for_other_adapters_and_tenants() -> None:
    guess = learned((2000, Load(32, 500)))
    assert guess.load("acme", "other", 2000) == LEAST
    assert guess.load("globex", "intent", 2000) == LEAST


def test_a_guess_follows_a_change() -> None:
    guess = learned((2000, Load(32, 500)), *[(2000, Load(1, 20))] * 40)
    assert guess.load("acme", "intent", 2000) == Load(1, int(SURE * 20))


def test_those_who_asked_last_are_remembered() -> None:
    guess, tokens = LoadGuess(), TokenGuess(128)
    for number in range(_MOST_TENANTS + 1):
        guess.learn(f"tenant-{number}", "intent", 100, Load(2, 20))
        tokens.learn(f"tenant-{number}", 100, 20)
        guess.learn("tenant-0", "intent", 100, Load(2, 20))
        tokens.learn("tenant-0", 100, 20)
    assert guess.load("tenant-0", "intent", 100) != LEAST != guess.load("tenant-2", "intent", 100)
    assert guess.load("tenant-1", "intent", 100) == LEAST
    assert tokens.tokens("tenant-0", ["a" * 100]) > tokens.tokens("tenant-1", ["a" * 100]) == 1


loads = st.builds(Load, st.integers(1, 1000), st.integers(1, 10**5))


@given(st.lists(st.tuples(st.integers(1, 10**6), loads), min_size=1, max_size=9), st.integers(0))
def test_a_guess_is_never_more_than_a_little_over_what_was(
    requests: list[tuple[int, Load]], body_bytes: int
) -> None:
    load = learned(*requests).load("acme", "intent", body_bytes)
    assert 1 <= load.rows <= LIKE * max(load.rows for _, load in requests)
    assert 1 <= load.tokens <= LIKE * max(load.tokens for _, load in requests)
