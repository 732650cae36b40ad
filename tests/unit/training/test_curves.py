import json
from pathlib import Path

import pytest

from tests.curves import write_curves
from training.curves import Curves, StepRecord, read_curves, read_phases
from training.errors import TrainingError

STEP: StepRecord = {
    "kind": "step",
    "stage": "lora",
    "epoch": 1,
    "step": 0,
    "rate": 0.1,
    "objective": float("nan"),
}


def test_phases_come_in_the_order_of_training(tmp_path: Path) -> None:
    for name in ("zeta", "final", "probe"):
        write_curves(tmp_path / f"{name}.jsonl", [1.0, 0.5])
    (tmp_path / "empty.jsonl").touch()
    assert [phase.name for phase in read_phases(tmp_path)] == ["probe", "final", "zeta"]
    assert [phase.name for phase in read_phases(tmp_path / "final.jsonl")] == ["final"]


def test_the_best_epoch_is_the_first_of_the_least_validation_loss(tmp_path: Path) -> None:
    write_curves(tmp_path / "probe.jsonl", [0.9, 0.4, 0.6, 0.4])
    (phase,) = read_phases(tmp_path)
    assert phase.best is not None
    assert phase.best["epoch"] == 2
    assert phase.points("epoch", "validation_loss") == [(1, 0.9), (2, 0.4), (3, 0.6), (4, 0.4)]
    assert [place for place, _ in phase.points("step", "rate")] == [0, 1, 2, 3]


def test_what_is_not_finite_is_written_as_null(tmp_path: Path) -> None:
    file = tmp_path / "probe.jsonl"
    Curves(file).add(STEP)
    assert json.loads(file.read_text(), parse_constant=pytest.fail)["objective"] is None


def test_records_of_steps_that_come_again_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "probe.jsonl"
    write_curves(file, [0.9, 0.4, 0.6])
    with file.open("a") as end:
        end.write('{"kind": "epoch"}\n{"step": "1"}\n{"kind": "epoch", "st')
    Curves(file).keep(2)
    assert {record["step"] for record in read_curves(file)} == {0, 1}
    assert file.read_text().endswith("}\n")


HOSTILE = {
    "no JSON": b"{{{\n\xff\xfe\x00\nnull\n[1, 2]\n" + b"[" * 100_000,
    "wrong types": b'{"kind": ["epoch"], "epoch": 1}\n{"kind": "epoch", "epoch": "1"}\n'
    b'{"kind": "epoch", "epoch": true}\n{"kind": "step", "step": null}\n',
    "numbers that are none": b'{"kind": "epoch", "epoch": NaN}\n{"kind": "step", "step": 1e999}\n'
    b'{"kind": "epoch", "epoch": ' + b"9" * 400 + b"}\n",
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_without_curves_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "probe.jsonl").write_bytes(HOSTILE[name])
    with pytest.raises(TrainingError, match="holds no curves"):
        read_phases(tmp_path)


def test_what_is_no_file_of_curves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"there is no .*; a training with --lora"):
        read_phases(tmp_path / "nowhere")
    with pytest.raises(TrainingError, match="holds no curves"):
        read_phases(tmp_path)
    with (tmp_path / "large.jsonl").open("wb") as file:
        file.truncate(2**27)
    with pytest.raises(TrainingError, match="larger than any file of curves"):
        read_phases(tmp_path)


def test_values_that_cannot_be_drawn_are_missing(tmp_path: Path) -> None:
    values = ["NaN", "1e308", "-Infinity", "true", '"0.5"', "null", "0.25"]
    lines = [
        f'{{"kind": "epoch", "epoch": {epoch}, "validation_loss": {value}}}'
        for epoch, value in enumerate(values)
    ]
    (tmp_path / "probe.jsonl").write_text("\n".join(lines))
    (phase,) = read_phases(tmp_path)
    assert phase.points("epoch", "validation_loss") == [(6, 0.25)]
    assert json.dumps([phase.epochs], allow_nan=False)
