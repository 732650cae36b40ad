from math import floor

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.engine.admission import (
    Admitted,
    Load,
    Queue,
    Refused,
    Waiting,
    admit,
    expected_wait_s,
    find_excess,
    is_roomy,
)

NOTHING = Load(0, 0)
EMPTY = Waiting(NOTHING, NOTHING, 0)
QUEUE = Queue(rows=1000, longest_wait_s=5, tokens_per_s=1000)  # 5000 tokens
SMALL = Load(1, 10)


def alone(rows: int, tokens: int) -> Waiting:
    """One tenant waits, and it is the one that asks."""
    return Waiting(Load(rows, tokens), Load(rows, tokens), 1)


def behind(rows: int, tokens: int, tenants: int = 1) -> Waiting:
    """Others wait, the one that asks does not."""
    return Waiting(Load(rows, tokens), NOTHING, tenants)


def refused(outcome: Admitted | Refused) -> Refused:
    assert isinstance(outcome, Refused), "it was admitted"
    return outcome


def is_admitted(
    request: Load,
    waiting: Waiting,
    queue: Queue = QUEUE,
    time_left_s: float | None = None,
    largest_other: Load = NOTHING,
) -> bool:
    admitted = isinstance(admit(request, waiting, queue, time_left_s, largest_other), Admitted)
    if is_roomy(request, waiting, queue, time_left_s):
        assert admitted, "the fast look says yes where the close one says no"
    return admitted


@pytest.mark.parametrize("request_", [SMALL, Load(1000, 5000), Load(1001, 10), Load(1, 10**9)])
def test_an_empty_queue_takes_a_request_of_any_size(request_: Load) -> None:
    assert is_admitted(request_, EMPTY)
    assert is_admitted(request_, EMPTY, time_left_s=0.0)


@pytest.mark.parametrize(
    ("held", "new", "fits"), [(1000, 1500, True), (1000, 1501, False), (2490, 10, True)]
)
def test_one_tenant_alone_gets_half_of_the_queue(held: int, new: int, fits: bool) -> None:
    assert is_admitted(Load(1, new), alone(10, held)) is fits
    if not fits:
        assert refused(admit(Load(1, new), alone(10, held), QUEUE)).kind == "tenant"


def test_a_share_is_one_of_rows_too() -> None:
    """Else a flood of short rows would leave no row to others and much of the time."""
    assert is_admitted(Load(100, 100), alone(400, 400))
    assert refused(admit(Load(101, 101), alone(400, 400), QUEUE)).kind == "tenant"


def test_the_fuller_the_queue_the_smaller_a_share() -> None:
    own = Load(10, 600)
    assert is_admitted(SMALL, Waiting(Load(100, 3000), own, 3))
    assert refused(admit(SMALL, Waiting(Load(100, 4385), own, 3), QUEUE)).kind == "tenant"


def test_a_queue_with_no_room_refuses_whoever_asks() -> None:
    for waiting in (behind(10, 4995, 9), behind(1000, 1000, 9), alone(1000, 1000)):
        outcome = refused(admit(SMALL, waiting, QUEUE))
        assert outcome.kind == "server"
        assert f"{waiting.all.rows} rows wait already" in outcome.detail


def test_one_big_request_of_another_tenant_keeps_nobody_out() -> None:
    """It was taken because the queue was empty; the rows' bound holds all the same."""
    big = 10**6
    flooded = behind(100, big)
    assert is_admitted(Load(10, 1250), flooded, time_left_s=1.5, largest_other=Load(100, big))
    assert refused(admit(Load(10, 1251), flooded, QUEUE, None, Load(100, big))).kind == "tenant"
    assert not is_admitted(
        SMALL, Waiting(Load(101, big), Load(1, big - 10), 2), largest_other=Load(100, 10)
    )
    # Nor do those who came in between.
    assert is_admitted(SMALL, behind(120, big + 200, tenants=21), largest_other=Load(100, big))


@pytest.mark.parametrize(
    ("waiting", "wait_s"),
    [
        (EMPTY, 0),
        (behind(10, 4000, 3), 0),
        (alone(10, 4000), 4),
        (Waiting(Load(100, 4000), Load(5, 500), 3), 1.5),
        (Waiting(Load(100, 600), Load(5, 500), 3), 0.6),
    ],
)
def test_the_wait_is_for_the_tenants_own_rows_and_as_much_of_each_other(
    waiting: Waiting, wait_s: float
) -> None:
    assert expected_wait_s(waiting, QUEUE) == pytest.approx(wait_s)


def test_who_has_no_time_to_wait_is_told_at_once() -> None:
    waiting = Waiting(Load(100, 2000), Load(5, 500), 2)
    assert is_admitted(SMALL, waiting, time_left_s=1.01)
    outcome = refused(admit(SMALL, waiting, QUEUE, 0.5))
    assert outcome.kind == "deadline"
    assert outcome.retry_after_s == pytest.approx(1.02)  # 0.51 of the 2 seconds that wait
    assert "about 1.0 seconds" in outcome.detail
    assert "0.5 left" in outcome.detail
    own_time_is_too_long = refused(admit(Load(1, 1000), waiting, QUEUE, 1.9))
    assert own_time_is_too_long.kind == "deadline"


def test_a_newcomer_in_a_hurry_does_not_wait_behind_anothers_backlog() -> None:
    assert is_admitted(SMALL, behind(100, 2400), time_left_s=0.1)


@pytest.mark.parametrize("request_", [Load(1, 2501), Load(1, 9000), Load(501, 10)])
def test_who_has_nothing_waiting_joins_with_more_than_a_share_while_half_is_free(
    request_: Load,
) -> None:
    assert is_admitted(request_, behind(499, 2500, 5))
    assert is_admitted(request_, behind(1, 1), time_left_s=9.0)
    for full in (behind(501, 2500, 5), behind(500, 2501, 5), alone(1, 10)):
        assert not is_admitted(request_, full)
    # One such request at a time: with another's in it, the queue is more than half full.
    assert not is_admitted(request_, behind(100, 9000), largest_other=Load(100, 9000))


def test_what_takes_too_long_by_itself_is_told_how_much_would_not() -> None:
    assert find_excess(Load(100, 9000), QUEUE.tokens_per_s, 9.0) is None
    excess = find_excess(Load(100, 18_000), QUEUE.tokens_per_s, 9.0)
    assert excess is not None
    assert "at least 18.0 seconds" in excess
    assert "at most 50 such inputs" in excess
    assert "at most 1 such inputs" in str(find_excess(Load(1, 18_000), QUEUE.tokens_per_s, -1.0))


def test_the_time_until_there_is_room() -> None:
    # 10 tokens more than the queue has, and as much again for a share of 10, at 1000 a second.
    assert refused(admit(SMALL, behind(9, 5000, 9), QUEUE)).retry_after_s == pytest.approx(0.02)
    # The share: (5000 - 2 * 500) / (2400 + 2400) of it may remain.
    outcome = refused(admit(Load(1, 500), alone(10, 2400), QUEUE))
    assert outcome.retry_after_s == pytest.approx((1 - 4000 / 4800) * 2.4)
    # More than a share: when the queue is empty.
    outcome = refused(admit(Load(1, 9000), alone(10, 2400), QUEUE))
    assert outcome.retry_after_s == pytest.approx(2.4)


tokens = st.integers(1, 20_000)
rows = st.integers(1, 2000)
loads = st.builds(Load, rows, tokens)
queues = st.builds(Queue, rows, st.floats(0.1, 60), st.floats(1, 10**5))
times = st.none() | st.floats(0, 60)


@st.composite
def waitings(draw: st.DrawFn) -> Waiting:
    """Some load of several tenants, the one that asks among them or not."""
    own = draw(st.just(NOTHING) | loads)
    n_others = draw(st.integers(0, 20))
    others = draw(loads) if n_others else NOTHING
    total = Load(own.rows + others.rows, own.tokens + others.tokens)
    return Waiting(total, own, n_others + (own.rows > 0))


@given(loads, queues, times)
def test_an_empty_queue_never_refuses(request_: Load, queue: Queue, time_left_s: float) -> None:
    assert is_admitted(request_, EMPTY, queue, time_left_s)


@given(loads, waitings(), queues, times)
def test_a_refusal_has_its_reason_and_a_time(
    request_: Load, waiting: Waiting, queue: Queue, time_left_s: float | None
) -> None:
    outcome = admit(request_, waiting, queue, time_left_s)
    if isinstance(outcome, Refused):
        assert 0 <= outcome.retry_after_s <= waiting.all.tokens / queue.tokens_per_s
        assert outcome.kind in ("tenant", "server", "deadline")
        assert outcome.detail
        if time_left_s is None:
            assert outcome.kind != "deadline"


@given(st.lists(loads, max_size=60), loads, queues, times)
def test_a_newcomer_is_admitted_while_one_other_tenant_floods(
    flood: list[Load], newcomer: Load, queue: Queue, time_left_s: float | None
) -> None:
    held = NOTHING
    for each in flood:
        waiting = alone(*as_pair(held)) if held.rows else EMPTY
        if each.rows <= queue.rows // 2 and is_admitted(each, waiting, queue):
            held = Load(held.rows + each.rows, held.tokens + each.tokens)
    small = Load(min(newcomer.rows, queue.rows // 4), min(newcomer.tokens, int(queue.tokens) // 4))
    waiting = behind(*as_pair(held)) if held.rows else EMPTY
    if time_left_s is not None:
        time_left_s += 1.01 * small.tokens / queue.tokens_per_s
    assert is_admitted(small, waiting, queue, time_left_s, largest_other=held)


def as_pair(load: Load) -> tuple[int, int]:
    return load.rows, load.tokens


@given(loads, waitings(), queues, times, st.data())
def test_less_of_anything_is_admitted_where_more_was(
    request_: Load,
    waiting: Waiting,
    queue: Queue,
    time_left_s: float | None,
    data: st.DataObject,
) -> None:
    assume(is_admitted(request_, waiting, queue, time_left_s))

    def less(load: Load) -> Load:
        return Load(
            data.draw(st.integers(min(load.rows, 1), load.rows)),
            data.draw(st.integers(min(load.tokens, 1), load.tokens)),
        )

    assert is_admitted(less(request_), waiting, queue, time_left_s)
    assert is_admitted(request_, waiting, queue, None)
    if time_left_s is not None:
        assert is_admitted(request_, waiting, queue, time_left_s + data.draw(st.floats(0, 9)))
    more = data.draw(st.floats(1, 9))
    for other in (
        Queue(queue.rows + 9, queue.longest_wait_s, queue.tokens_per_s),
        Queue(queue.rows, queue.longest_wait_s * more, queue.tokens_per_s),
        Queue(queue.rows, queue.longest_wait_s, queue.tokens_per_s * more),
    ):
        assert is_admitted(request_, waiting, other, time_left_s)
    others = Load(waiting.all.rows - waiting.own.rows, waiting.all.tokens - waiting.own.tokens)
    own, others = less(waiting.own), less(others)
    total = Load(own.rows + others.rows, own.tokens + others.tokens)
    assert is_admitted(request_, Waiting(total, own, waiting.tenants), queue, time_left_s)


@given(loads, waitings(), queues, st.data())
def test_more_is_never_told_to_come_back_sooner(
    request_: Load, waiting: Waiting, queue: Queue, data: st.DataObject
) -> None:
    outcome = admit(request_, waiting, queue)
    more = Load(
        request_.rows + data.draw(st.integers(0, 2000)),
        request_.tokens + data.draw(st.integers(0, 20_000)),
    )
    if isinstance(outcome, Refused):
        later = refused(admit(more, waiting, queue))
        assert later.retry_after_s >= outcome.retry_after_s


@given(loads, waitings(), queues, times)
def test_who_comes_back_in_time_finds_room(
    request_: Load, waiting: Waiting, queue: Queue, time_left_s: float | None
) -> None:
    if time_left_s is not None:
        time_left_s += 1.01 * request_.tokens / queue.tokens_per_s
    outcome = admit(request_, waiting, queue, time_left_s)
    assume(isinstance(outcome, Refused))
    served = refused(outcome).retry_after_s * queue.tokens_per_s
    left = 1 - served / waiting.all.tokens

    def drained(load: Load) -> Load:
        return Load(*(max(0, floor(amount * left - 1e-6)) for amount in as_pair(load)))

    then = Waiting(drained(waiting.all), drained(waiting.own), waiting.tenants)
    assert is_admitted(request_, then, queue, time_left_s)


@pytest.mark.parametrize("n_flooders", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [Load(1, 10), Load(5, 70), Load(10, 10)])
def test_flooders_share_evenly_and_leave_room(n_flooders: int, size: Load) -> None:
    """They start one after the other, offer without end, and the backbone serves all in turn."""
    held = [NOTHING] * n_flooders
    for step in range(200):
        held = [Load(floor(load.rows * 0.98), floor(load.tokens * 0.98)) for load in held]
        here = min(n_flooders, 1 + step // 10)
        for turn in range(30 * here):
            tenant = (turn + step) % here
            if is_admitted(size, seen_by(tenant, held)):
                held[tenant] = total_of([held[tenant], size])
    capacity = min(QUEUE.rows / size.rows, QUEUE.tokens / size.tokens)
    for load in held:
        assert load.tokens / size.tokens == pytest.approx(capacity / (n_flooders + 1), rel=0.15)
    waiting = Waiting(total_of(held), NOTHING, n_flooders)
    assert is_admitted(SMALL, waiting)


def total_of(held: list[Load]) -> Load:
    return Load(sum(load.rows for load in held), sum(load.tokens for load in held))


def seen_by(tenant: int, held: list[Load]) -> Waiting:
    return Waiting(total_of(held), held[tenant], sum(load.rows > 0 for load in held))
