"""How fast a backbone is taken to be, and when large requests are refused for it."""

import pytest

from service.engine.speed import Speed


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def measured(clock: Clock, batches: int = 30, tokens_per_s: float = 1000) -> Speed:
    speed = Speed(tokens_per_s, clock)
    for _ in range(batches):
        speed.measure(tokens_per_s)
    return speed


def test_the_speed_follows_what_is_measured(clock: Clock) -> None:
    speed = measured(clock)
    for _ in range(100):
        speed.measure(5000)
    assert speed.tokens_per_s == pytest.approx(5000, rel=0.01)


def test_the_speed_of_the_start_may_be_far_too_low(clock: Clock) -> None:
    assert measured(clock, batches=0).upper_bound == 4000
    assert measured(clock, batches=29).upper_bound == 4000


def test_a_speed_measured_often_and_lately_is_sure(clock: Clock) -> None:
    speed = measured(clock)
    assert speed.upper_bound == 1000
    clock.now = 60
    assert speed.upper_bound == 1000


def test_a_speed_measured_long_ago_is_in_doubt_until_the_next_batch(clock: Clock) -> None:
    speed = measured(clock)
    clock.now = 61
    assert speed.upper_bound == 4000
    speed.measure(1000)
    assert speed.upper_bound == 1000
