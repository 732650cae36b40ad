from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.batching import WINDOW, BatchLimits
from service.engine.fair_queue import FairQueue

ONE_BY_ONE = BatchLimits(tokens=1, ranks=64)
ROOMY = BatchLimits(tokens=10**9, ranks=64)


@dataclass(frozen=True)
class Row:
    tenant: str
    length: int = 1
    name: str = ""
    lora: str | None = None
    rank: int = 0

    @property
    def cost(self) -> int:
        return self.length


def drain(queue: FairQueue[Row], limits: BatchLimits = ONE_BY_ONE) -> list[Row]:
    served = []
    while batch := queue.take(limits):
        served += batch
    return served


def test_rows_of_one_tenant_go_in_the_order_in_which_they_came() -> None:
    queue = FairQueue[Row]()
    rows = [Row("a", length, str(length)) for length in (3, 1, 2)]
    queue.add(rows)
    assert drain(queue) == rows
    assert queue.take(ROOMY) == []


def test_a_newcomer_passes_the_whole_backlog_of_another() -> None:
    queue = FairQueue[Row]()
    queue.add([Row("heavy", 5, str(number)) for number in range(1000)])
    queue.take(ONE_BY_ONE)
    queue.add([Row("light", 5)])
    assert "light" in [row.tenant for row in queue.take(ONE_BY_ONE) + queue.take(ONE_BY_ONE)]


def test_tenants_with_backlogs_share_by_tokens_not_by_rows() -> None:
    queue = FairQueue[Row]()
    queue.add([Row("long", 10) for _ in range(100)])
    queue.add([Row("short", 1) for _ in range(1000)])
    tokens = Counter[str]()
    for _ in range(220):
        for row in queue.take(ONE_BY_ONE):
            tokens[row.tenant] += row.length
    assert tokens["long"] == pytest.approx(tokens["short"], abs=10)


def test_time_without_rows_earns_no_credit() -> None:
    queue = FairQueue[Row]()
    queue.add([Row("idle")])
    queue.add([Row("busy") for _ in range(500)])
    for _ in range(300):
        queue.take(ONE_BY_ONE)
    queue.add([Row("idle") for _ in range(200)])
    tenants = Counter(row.tenant for _ in range(100) for row in queue.take(ONE_BY_ONE))
    assert abs(tenants["idle"] - tenants["busy"]) <= 2


def test_removed_rows_are_not_served_and_cost_their_tenant_nothing() -> None:
    queue = FairQueue[Row]()
    queue.add([Row("other") for _ in range(20)])
    gone = queue.add([Row("a", 5, "gone") for _ in range(10)])
    queue.remove(gone)
    assert len(queue) == 20
    assert queue.held_by("a") == (0, 0)
    queue.add([Row("a", 1, "kept")])
    served = drain(queue)
    assert "gone" not in [row.name for row in served]
    assert [row.name for row in served].index("kept") <= 2


def test_rows_behind_removed_ones_move_up_in_their_order() -> None:
    queue = FairQueue[Row]()
    queue.add([Row("other") for _ in range(30)])
    gone = queue.add([Row("a", 20, "gone")])
    queue.add([Row("a", 1, "first")])
    queue.remove(gone)
    queue.add([Row("a", 1, "second")])
    served = [row.name for row in drain(queue)]
    assert served.index("first") < served.index("second") <= 5


def test_rows_taken_already_may_be_removed_again() -> None:
    queue = FairQueue[Row]()
    places = queue.add([Row("a"), Row("b"), Row("c")])
    taken = queue.take(ONE_BY_ONE)
    queue.remove(places)
    assert len(taken) == 1
    assert len(queue) == queue.tokens == 0


def test_near_lengths_of_several_tenants_go_together() -> None:
    queue = FairQueue[Row]()
    queue.add([Row("a", 10), Row("b", 50), Row("c", 10), Row("d", 50)])
    assert [row.length for row in queue.take(ROOMY)] == [10, 10]
    assert [row.length for row in queue.take(ROOMY)] == [50, 50]


def test_what_is_waiting_is_counted() -> None:
    queue = FairQueue[Row]()
    queue.add([Row("a", 3), Row("b", 4), Row("a", 5)])
    assert (len(queue), queue.tokens, queue.tenants) == (3, 12, 2)
    assert queue.held_by("a") == (2, 8)
    assert queue.held_by("x") == (0, 0)
    queue.take(ONE_BY_ONE)
    queue.take(ONE_BY_ONE)
    assert (len(queue), queue.tenants) == (1, 1)
    assert len(queue.clear()) == 1
    assert (len(queue), queue.tokens, queue.tenants, queue.held_by("a")) == (0, 0, 0, (0, 0))


def test_ten_thousand_tenants_that_came_and_went_leave_nothing_behind() -> None:
    queue = FairQueue[Row]()
    queue.add([Row("busy", 10) for _ in range(WINDOW)])
    for number in range(10_000):
        queue.add([Row(f"tenant-{number}", 3)])
        queue.add([Row("busy", 3)])
        queue.take(ONE_BY_ONE)
        queue.take(ONE_BY_ONE)
    assert len(queue._accounts) < 1000


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(1, 50)),
            st.tuples(st.just("take"), st.integers(1, 100), st.just(0)),
            st.tuples(st.just("remove"), st.integers(0, 40), st.just(0)),
        )
    )
)
def test_every_row_is_served_once_or_removed(steps: list[tuple[str, object, int]]) -> None:
    queue = FairQueue[Row]()
    places, served, expected = [], Counter[str](), Counter[str]()
    for number, (what, value, length) in enumerate(steps):
        if what == "add":
            places += [(str(number), queue.add([Row(str(value), length, str(number))]))]
            expected[str(number)] += 1
        elif what == "take":
            served.update(row.name for row in queue.take(BatchLimits(int(str(value)), 64)))
        elif places:
            name, place = places[int(str(value)) % len(places)]
            queue.remove(place)
            if not served[name]:
                expected[name] = 0
    served.update(row.name for row in drain(queue, ROOMY))
    assert +served == +expected
    assert len(queue) == queue.tokens == 0
