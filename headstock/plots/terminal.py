"""Panels as characters: one glyph a curve, so that colour is a help and no need."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

from headstock.plots.panels import Line, Mark, Panel
from training.curves import Point

_LABELS = 10  # characters for the numbers beside the vertical axis
_LEAST_WIDTH = 40
_COLOURS = {"train": "cyan", "validation": "yellow", "gap": "magenta", "rate": "green"}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What curves and axes are drawn with."""

    curves: dict[Mark, str]
    best: str
    best_column: str
    both: str
    side: str
    tick: str
    floor: str
    corner: str
    zero: str


UNICODE = Glyphs(
    {"train": "•", "validation": "○", "gap": "▪", "rate": "•"},
    "★",
    "┊",
    "◉",
    "│",
    "┤",
    "─",
    "└",
    "·",
)
ASCII = Glyphs(
    {"train": "x", "validation": "o", "gap": "#", "rate": "x"},
    "*",
    ":",
    "@",
    "|",
    "+",
    "-",
    "+",
    ".",
)


class _Canvas:
    """Cells of `width` x `height` over the ranges that the points span."""

    def __init__(self, points: Sequence[Point], width: int, height: int) -> None:
        self._cells = [[(" ", "")] * width for _ in range(height)]
        self.x = _range([x for x, _ in points])
        self.y = _range([y for _, y in points])

    def place(self, point: Point) -> tuple[int, int]:
        """Column, and row from the top."""
        height, width = len(self._cells), len(self._cells[0])
        row = round(_share(point[1], self.y) * (height - 1))
        return round(_share(point[0], self.x) * (width - 1)), height - 1 - row

    def put(self, column: int, row: int, glyph: str, colour: str = "") -> None:
        """Over what was there."""
        self._cells[row][column] = (glyph, colour)

    def rows(self) -> list[list[tuple[str, str]]]:
        """From the top, each cell a glyph and its colour."""
        return self._cells

    def trace(self, points: Sequence[Point]) -> set[tuple[int, int]]:
        """The cells of a curve, one a column between its ends."""
        places = [self.place(point) for point in points]
        found = set(places)
        for (x0, y0), (x1, y1) in pairwise(places):
            for column in range(x0 + 1, x1):
                found.add((column, round(y0 + (y1 - y0) * (column - x0) / (x1 - x0))))
        return found


def draw(panel: Panel, width: int, height: int, glyphs: Glyphs) -> Text:
    """A panel of `width` characters at most; `height` rows are between title and axis."""
    inner = max(width, _LEAST_WIDTH) - _LABELS - 1
    canvas = _Canvas([point for line in panel.lines for point in line.points], inner, height)
    _draw_zero(canvas, inner, glyphs)
    if panel.best is not None:
        best_column, best_row = canvas.place(panel.best)
        for row in range(height):
            canvas.put(best_column, row, glyphs.best_column)
    drawn: set[tuple[int, int]] = set()
    for line in panel.lines:
        cells = canvas.trace(line.points)
        for column, row in sorted(cells):
            both = (column, row) in drawn
            glyph = glyphs.both if both else glyphs.curves[line.kind]
            canvas.put(column, row, glyph, "" if both else _COLOURS[line.kind])
        drawn |= cells
    if panel.best is not None:
        canvas.put(best_column, best_row, glyphs.best, "bold")
    text = _title(panel, glyphs)
    ticks = {0: canvas.y[1], height // 2: _at(1 - (height // 2) / (height - 1), canvas.y)}
    ticks[height - 1] = canvas.y[0]
    for number, cells_of_row in enumerate(canvas.rows()):
        label = f"{ticks[number]:.3g}" if number in ticks else ""
        side = glyphs.tick if number in ticks else glyphs.side
        text.append(f"{label[:_LABELS]:>{_LABELS}}{side}")
        for glyph, colour in cells_of_row:
            text.append(glyph, colour)
        text.append("\n")
    text.append(" " * _LABELS + glyphs.corner + glyphs.floor * inner + "\n")
    return text.append(_floor(panel.axis, canvas.x, inner))


def _draw_zero(canvas: _Canvas, width: int, glyphs: Glyphs) -> None:
    """A line where the values change their sign."""
    if canvas.y[0] < 0 < canvas.y[1]:
        _, row = canvas.place((canvas.x[0], 0.0))
        for column in range(width):
            canvas.put(column, row, glyphs.zero)


def _title(panel: Panel, glyphs: Glyphs) -> Text:
    text = Text()
    text.append(panel.title, "bold")
    lines: list[Line] = [line for line in panel.lines if line.points]
    for line in lines:
        text.append(f"  {glyphs.curves[line.kind]} {line.name}", _COLOURS[line.kind])
    if len(lines) > 1:
        text.append(f"  {glyphs.both} both")
    if panel.best is not None:
        text.append(f"  {glyphs.best} best, epoch {panel.best[0]:g}", "bold")
    return text.append("\n")


def _floor(axis: str, span: tuple[float, float], width: int) -> str:
    first, last = (f"{end:.6g}" for end in span)
    middle = axis.center(max(0, width - len(first) - len(last)))
    return f"{' ' * (_LABELS + 1)}{first}{middle}{last}\n"


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The least and the largest, apart from each other."""
    low, high = float(min(values)), float(max(values))
    if low < high:
        return low, high
    apart = abs(low) / 2 or 0.5
    return low - apart, high + apart


def _share(value: float, span: tuple[float, float]) -> float:
    """From 0 to 1; halved first, so that no difference overflows."""
    return (value / 2 - span[0] / 2) / (span[1] / 2 - span[0] / 2)


def _at(share: float, span: tuple[float, float]) -> float:
    return span[0] * (1 - share) + span[1] * share
