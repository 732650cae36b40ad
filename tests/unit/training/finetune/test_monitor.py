from pathlib import Path

import numpy as np
import pytest

from training.curves import MAX_STEPS, Curves, read_phases
from training.finetune.monitor import Monitor, Seen, judge, spread
from training.tasks import TASKS


def test_outputs_are_judged_by_hand() -> None:
    raw = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    seen = judge(TASKS["classification"], raw, np.array([0, 1, 1]), 2.0)
    right, wrong = np.log(1 + np.exp(-1)), np.log(1 + np.exp(1))
    assert seen.loss == pytest.approx((2 * right + wrong) / 3)
    assert seen.metric == pytest.approx(2 / 3)
    labels = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert judge(TASKS["multilabel"], raw, labels, 1.0).metric == pytest.approx(4 / 5)
    nothing = judge(TASKS["multilabel"], np.full((2, 2), -1.0), np.zeros((2, 2)), 1.0)
    assert nothing.metric == 1.0
    values = np.array([[2.0, 5.0], [0.0, 5.0], [1.0, 5.0]])  # the second never varies
    assert judge(TASKS["regression"], raw, values, 1.0).metric == pytest.approx(0.5)
    assert judge(TASKS["regression"], raw, np.ones((3, 2)), 1.0).metric == 0.0


@pytest.mark.parametrize(("rows", "wanted"), [(1, 5), (5, 5), (100, 7), (8, 7)])
def test_a_sample_is_spread_over_all_rows(rows: int, wanted: int) -> None:
    places = spread(rows, wanted)
    assert len(set(places)) == len(places) == min(rows, wanted)
    assert (min(places), max(places)) == (0, rows - 1)


@pytest.mark.parametrize("steps", [1, MAX_STEPS, MAX_STEPS + 1, 99_999])
def test_records_of_steps_are_bounded(steps: int, tmp_path: Path) -> None:
    monitor = Monitor(Curves(tmp_path / "probe.jsonl"), "class", steps)
    for step in range(steps):
        monitor.step("lora", 0, step, 0.1, 1.0)
    (phase,) = read_phases(tmp_path)
    assert min(steps, MAX_STEPS // 2) <= len(phase.steps) <= MAX_STEPS


def test_the_gap_is_validation_less_training(tmp_path: Path) -> None:
    monitor = Monitor(Curves(tmp_path / "probe.jsonl"), "labels", 1)
    monitor.epoch("lora", 0, 3, 0.1, 1.0, (Seen(0.2, 0.9), Seen(0.5, 0.7)))
    monitor.epoch("lora", 1, 7, 0.1, 1.0, None)
    (phase,) = read_phases(tmp_path)
    assert phase.points("epoch", "gap")[0] == pytest.approx((1, 0.3))
    assert [each["metric"] for each in phase.epochs] == ["micro_f1"] * 2
    assert all(each["seconds"] >= 0 for each in phase.epochs)
