"""What the benchmark writes: sections that are replaced one at a time, and its picture."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.common import Figure, table
from benchmarks.engine.arrivals import Point
from benchmarks.engine.picture import draw
from benchmarks.engine.stage import in_turn, ratio
from benchmarks.results import read_sections, write_section


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    write_section("One", "| a |", file)
    write_section("Two", "| b |", file)
    first = read_sections(file)["Two"]
    write_section("One", "| c |", file)
    sections = read_sections(file)
    assert list(sections) == ["One", "Two"]
    assert sections["Two"] == first
    assert "| c |" in sections["One"]
    assert "| a |" not in file.read_text()


def test_a_table_has_a_line_for_each_figure() -> None:
    lines = table([Figure("what", "0.97", "1"), Figure("else", "2 ms")]).splitlines()
    assert lines[2:] == ["| what | 0.97 | 1 |", "| else | 2 ms |  |"]


def test_both_sides_have_their_turn_in_each_round() -> None:
    order: list[str] = []

    def side(name: str, value: float) -> float:
        order.append(name)
        return value

    sides = in_turn(2, {"a": lambda: side("a", 3.0), "b": lambda: side("b", 2.0)})
    assert order == ["a", "b", "a", "b"]
    assert ratio("a ÷ b", sides["a"], sides["b"]).value == "1.50 [1.50, 1.50]"


def test_the_ratio_is_the_median_round_s_with_the_extremes() -> None:
    figure = ratio("what", [2.0, 9.0, 4.0], [1.0, 3.0, 4.0], "2", "rows/s")
    assert figure.value == "2.00 [1.00, 3.00] (4 to 3 rows/s)"
    assert figure.target == "2"


@pytest.mark.parametrize("highest", [9.0, 950.0])
def test_the_picture_is_valid_and_holds_every_point(highest: float) -> None:
    points = [
        Point(share, 500 * share, 4.0, highest, 0.1, 20.0, 0, None) for share in (0.1, 0.5, 1.0)
    ]
    root = ElementTree.fromstring(draw(points))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}circle")) == 6
    heights = {float(circle.attrib["cy"]) for circle in root.findall(f"{space}circle")}
    assert all(0 < height < 400 for height in heights)
