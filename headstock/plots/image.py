"""Panels as an image, by matplotlib; imported when one is asked for."""

import io
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from headstock.plots.panels import Panel, panels, printable
from training.curves import Phase

_COLOURS = {"train": "#0072b2", "validation": "#d55e00", "gap": "#cc79a7", "rate": "#009e73"}
_INCHES = (4.2, 2.8)  # of one panel


def render(phases: list[Phase], suffix: str) -> bytes:
    """A row of panels a phase; `suffix` is ".png" or ".svg". The same curves give the same bytes.

    (Colours of Okabe and Ito 2008, which the colour-blind tell apart.)
    """
    rows = [panels(phase) for phase in phases]
    n_columns = max(len(row) for row in rows)
    size = (_INCHES[0] * n_columns, _INCHES[1] * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), n_columns, squeeze=False)
    for phase, row, places in zip(phases, rows, axes, strict=True):
        for number, place in enumerate(places):
            if number < len(row):
                _draw(place, phase.name, row[number])
            else:
                place.set_visible(False)
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "headstock"}):
        metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
        figure.savefig(content, format=Path(suffix).name[1:], dpi=150, metadata=metadata)
    return content.getvalue()


def _draw(place: matplotlib.axes.Axes, phase: str, panel: Panel) -> None:
    marker = "o" if panel.axis == "epoch" else None
    for line in panel.lines:
        if line.points:
            x, y = zip(*line.points, strict=True)
            colour = _COLOURS[line.kind]
            place.plot(x, y, color=colour, marker=marker, markersize=3, label=line.name)
    if panel.best is not None:
        best = f"best, epoch {panel.best[0]:g}"
        place.axvline(panel.best[0], color="0.6", linestyle=":", linewidth=1)
        place.plot(*panel.best, color="black", marker="*", markersize=11, linestyle="", label=best)
    if panel.title == "gap":
        place.axhline(0, color="0.6", linewidth=0.8)
    place.set_title(f"{printable(phase)}: {panel.title}", fontsize=10, parse_math=False)
    place.set_xlabel(panel.axis)
    place.legend(fontsize=8, frameon=False)
    place.spines[["top", "right"]].set_visible(False)
