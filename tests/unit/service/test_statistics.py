"""Counts of versions: added up, and bounded."""

import pytest

from service import statistics as module
from service.engine.job import Times
from service.statistics import Duration, Statistics


def test_requests_are_added_up_by_their_parts() -> None:
    statistics = Statistics()
    counts = statistics.count("acme", "intents", 2)
    counts.add_success(3, 2, Times(prepare_s=1e-3, queue_s=2e-3, compute_s=4e-3), 10e-3)
    counts.add_success(1, 1, Times(), 0.0)
    counts.add_failure(5e-3)
    found = statistics.of("acme", "intents", 2)
    assert (found.rows, found.runs) == (4, 3)
    assert found.success == Duration(2, 10_000_000)
    assert found.fail == Duration(1, 5_000_000)
    assert found.prepare == Duration(2, 1_000_000)
    assert found.queue == Duration(2, 2_000_000)
    assert found.compute == Duration(2, 4_000_000)
    assert found.conclude == Duration(2, 3_000_000)
    assert found.last_ms > 1_700_000_000_000


def test_what_was_not_asked_has_zeros() -> None:
    statistics = Statistics()
    statistics.count("acme", "intents", 1).add_failure(1)
    for name in (("acme", "intents", 2), ("acme", "other", 1), ("other", "intents", 1)):
        assert statistics.of(*name).fail == Duration()
    assert statistics.numbers("acme", "intents") == (1,)
    assert statistics.numbers("other", "intents") == ()


def test_what_is_gone_has_zeros_again() -> None:
    statistics = Statistics()
    for adapter in ("intents", "topics"):
        statistics.count("acme", adapter, 1).add_failure(1)
    statistics.count("other", "intents", 1).add_failure(1)
    statistics.forget_adapter("acme", "intents")
    statistics.forget_adapter("acme", "nothing")
    assert statistics.numbers("acme", "intents") == ()
    assert statistics.of("acme", "topics", 1).fail.count == 1
    statistics.forget_tenant("acme")
    assert statistics.numbers("acme", "topics") == ()
    assert statistics.of("other", "intents", 1).fail.count == 1


def test_those_that_were_not_asked_for_longest_are_forgotten() -> None:
    statistics = Statistics(most=2)
    for adapter in ("a", "b", "a", "c"):
        statistics.count("acme", adapter, 1).add_failure(1)
    found = {name: statistics.of("acme", name, 1).fail.count for name in "abc"}
    assert found == {"a": 2, "b": 0, "c": 1}


def test_of_an_adapter_the_oldest_versions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VERSIONS", 2)
    statistics = Statistics()
    for number in (3, 1, 2, 3):
        statistics.count("acme", "intents", number)
    assert sorted(statistics.numbers("acme", "intents")) == [2, 3]
