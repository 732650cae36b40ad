"""Curves as characters and as images."""

import json
from pathlib import Path

import pytest

from headstock.plots.image import render
from headstock.plots.panels import Line, Panel, panels, summary
from headstock.plots.terminal import ASCII, UNICODE, draw
from tests.curves import write_curves
from training.curves import Point, read_phases

FALLING: list[Point] = [(1, 3.0), (2, 2.0), (3, 1.0)]
RISING: list[Point] = [(1, 1.0), (2, 2.0), (3, 3.0)]


def drawn(panel: Panel, width: int = 52, height: int = 5) -> list[str]:
    return draw(panel, width, height, ASCII).plain.splitlines()


def test_a_drawing_by_hand() -> None:
    lines = [Line("train", "training", FALLING), Line("validation", "validation", RISING)]
    title, *rows = drawn(Panel("loss", "epoch", lines, best=(3, 3.0)))
    assert title == "loss  x training  o validation  @ both  * best, epoch 3"
    assert rows[0].startswith("         3+xxxxx")
    assert rows[0].endswith("oo*")  # the best one, over the curve
    assert rows[1].endswith(":")  # and its column
    assert rows[2][:11] == "         2+"
    assert rows[2][11 + 20] == "@"  # they cross in the middle
    assert rows[4].startswith("         1+ooooo")
    assert rows[5] == " " * 10 + "+" + "-" * 41
    assert rows[6].split() == ["1", "epoch", "3"]


def test_a_gap_that_changes_its_sign_has_a_line_at_zero() -> None:
    rows = drawn(Panel("gap", "epoch", [Line("gap", "gap", [(1, -1.0), (2, 1.0)])]))
    assert rows[3].count(".") == 30
    same = drawn(Panel("gap", "epoch", [Line("gap", "gap", [(1, 1.0), (2, 2.0)])]))
    assert not any(".." in row for row in same)


@pytest.mark.parametrize("width", [1, 40, 80, 120])
@pytest.mark.parametrize(
    "points",
    [
        [(1.0, 0.0)],
        [(1.0, 5.0), (2.0, 5.0)],
        [(0.0, -1e99), (1e99, 1e99)],
        [(1.0, 1e-99), (2.0, 2e-99)],
        [(float(place), float(place % 7)) for place in range(5000)],
    ],
)
@pytest.mark.parametrize("glyphs", [ASCII, UNICODE])
def test_any_curve_fits_into_its_width(width: int, points: list[Point], glyphs: object) -> None:
    marks = ASCII if glyphs is ASCII else UNICODE
    text = draw(
        Panel("loss", "epoch", [Line("train", "training", points)], points[0]), width, 6, marks
    )
    rows = text.plain.splitlines()
    assert len(rows) == 9
    assert max(map(len, rows)) <= max(width, 40)
    assert sum(row.count(marks.best) for row in rows) == 2  # the title's, the mark


def test_a_phase_without_validation_rows_shows_what_is_minimised(tmp_path: Path) -> None:
    step = {"kind": "step", "stage": "lora", "epoch": 1, "rate": 0.1}
    lines = [json.dumps({**step, "step": place, "objective": 2.0 - place}) for place in range(2)]
    (tmp_path / "final.jsonl").write_text("\n".join(lines))
    (phase,) = read_phases(tmp_path)
    found = panels(phase)
    assert [(panel.title, panel.axis) for panel in found] == [
        ("loss", "step"),
        ("learning rate", "step"),
    ]
    assert found[0].lines[0].points == [(0, 2.0), (1, 1.0)]
    assert summary(phase) == "step 2"


def test_a_summary_names_the_best_epoch(tmp_path: Path) -> None:
    write_curves(tmp_path / "probe.jsonl", [0.9, 0.5, 0.7])
    (phase,) = read_phases(tmp_path)
    assert summary(phase) == (
        "epoch 3, best: epoch 2, train loss 0.4, validation loss 0.5, gap 0.1, accuracy 0.75"
    )


def test_a_name_from_a_file_commands_no_terminal(tmp_path: Path) -> None:
    record = {"kind": "epoch", "epoch": 1, "validation_loss": 1.0, "validation_metric": 1.0}
    file = tmp_path / "probe.jsonl"
    file.write_text(json.dumps({**record, "metric": "\x1b[2J" + "a" * 1000}))
    (phase,) = read_phases(file)
    assert "\x1b" not in summary(phase)
    assert len(summary(phase)) < 120


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_images_are_the_same_bytes_each_time(suffix: str, tmp_path: Path) -> None:
    write_curves(tmp_path / "probe.jsonl", [0.9, 0.5, 0.7])
    write_curves(tmp_path / "a$b^$.jsonl", [0.9])  # no formula
    phases = read_phases(tmp_path)
    image = render(phases, suffix)
    assert image == render(phases, suffix)
    assert image.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
    assert len(image) > 5000


def test_huge_values_are_drawn_into_an_image(tmp_path: Path) -> None:
    write_curves(tmp_path / "probe.jsonl", [9e99, 1e-99, -9e99], gap=5e99)
    assert render(read_phases(tmp_path), ".png").startswith(b"\x89PNG")
