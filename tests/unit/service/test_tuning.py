import time
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from backbone import BackboneError, PlacedLora, TextRow
from service.engine.tuning import tune
from service.testing import FakeBackbone

SECONDS = 0.05


class Timed(FakeBackbone):
    """Runs take as long as told, and give bits as told."""

    def __init__(self, run_s: float, shift: float = 0.0) -> None:
        super().__init__()
        self._run_s = run_s
        self._error: NDArray[np.float32] = np.array(shift, dtype=np.float32)

    def run(
        self,
        rows: Sequence[TextRow],
        features: Collection[str],
        loras: Sequence[PlacedLora | None] = (),
    ) -> Mapping[str, NDArray[np.float32]]:
        time.sleep(self._run_s)
        found = super().run(rows, features, loras)
        return {name: value + self._error for name, value in found.items()}


def choose(run_s: Mapping[int, float], cores: int, **given: int | None) -> tuple[int, int]:
    """Runs and threads, where a run with so many threads takes so long."""
    plan = tune(lambda threads: Timed(run_s[threads]), cores, seconds=SECONDS, **given).plan
    return plan.runs, plan.threads


def test_several_runs_of_one_thread_are_the_first_choice() -> None:
    assert choose({1: 0.010, 2: 0.006}, cores=2) == (2, 1)


def test_threads_that_make_a_run_clearly_faster_are_taken() -> None:
    assert choose({1: 0.010, 2: 0.002}, cores=2) == (1, 2)
    assert choose({1: 0.010, 2: 0.010, 4: 0.001}, cores=4) == (1, 4)


def test_threads_that_change_the_bits_are_not_taken() -> None:
    tuned = tune(
        lambda threads: Timed(0.010 if threads == 1 else 0.001, shift=threads - 1),
        cores=2,
        seconds=SECONDS,
    )
    assert (tuned.plan.runs, tuned.plan.threads) == (2, 1)


def test_threads_that_are_set_and_change_the_bits_are_refused() -> None:
    with pytest.raises(BackboneError, match="HEADSTOCK_THREADS=1"):
        tune(lambda threads: Timed(0, shift=threads - 1), cores=2, threads=2, seconds=SECONDS)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"runs": 3}, (3, 1)),
        ({"runs": 1}, (1, 4)),
        ({"threads": 2}, (2, 2)),
        ({"threads": 8}, (1, 8)),
        ({"runs": 5, "threads": 2}, (5, 2)),
    ],
)
def test_what_is_set_is_not_measured(given: dict[str, int], expected: tuple[int, int]) -> None:
    assert choose(dict.fromkeys((1, 2, 4, 8), 0.001), cores=4, **given) == expected


def test_the_speed_is_that_of_all_runs_together() -> None:
    plan = tune(lambda _: Timed(0.010), cores=2, runs=2, threads=1, seconds=0.5).plan
    tokens_of_a_run = 8 * 14
    assert plan.tokens_per_s == pytest.approx(2 * tokens_of_a_run / 0.010, rel=0.5)


def test_the_log_says_what_was_chosen() -> None:
    facts = tune(lambda _: Timed(0.001), cores=2, runs=2, threads=1, seconds=SECONDS).facts()
    assert facts.pop("tokens_per_s") == pytest.approx(2 * 8 * 14 / 0.001, rel=0.9)
    assert facts == {
        "backbone": "fake",
        "precision": "fp32",
        "int8_kernels": "exact",
        "runs": 2,
        "threads": 1,
    }
