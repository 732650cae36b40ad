"""How much of something a holder may have: as much as all leave free."""

from service.shares import Shares


def test_there_is_always_something_for_one_more() -> None:
    shares = Shares(100)
    got = {}
    for holder in "abcd":
        while shares.take(holder, 1):
            pass
        got[holder] = shares.held(holder)
    assert got == {"a": 50, "b": 25, "c": 12, "d": 6}
    assert shares.take("e", 1)


def test_what_is_refused_is_not_taken_and_what_is_given_back_is_free() -> None:
    shares = Shares(100)
    assert not shares.take("a", 101)
    assert (shares.held("a"), shares.free) == (0, 100)
    assert shares.take("a", 50)
    assert not shares.take("a", 1)
    assert shares.take("b", 25)
    assert not shares.take("b", 1)
    shares.give_back("a", 50)
    assert (shares.held("a"), shares.free) == (0, 75)
    assert shares.take("a", 37)


def test_who_has_nothing_may_take_much_and_little_is_kept_for_others() -> None:
    shares = Shares(256)
    assert [shares.take(holder, 64) for holder in "aabbcd"] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert shares.take("c", 60)
    assert shares.free == 4
    assert shares.take("d", 2)
    assert not shares.take("a", 1)
