"""What is drawn of a phase of training, whichever way: losses, their gap, the learning rate."""

from dataclasses import dataclass

from training.curves import Phase, Point

Mark = str  # which curve, for glyphs and colours
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; `kind` chooses its glyph and its colour."""

    kind: Mark
    name: str
    points: list[Point]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over one axis; `best` is the place of the best epoch there."""

    title: str
    axis: str
    lines: list[Line]
    best: Point | None = None


def panels(phase: Phase) -> list[Panel]:
    """Those that the phase has records for."""
    best = phase.best
    losses = [
        Line("train", "training", phase.points("epoch", "train_loss")),
        Line("validation", "validation", phase.points("epoch", "validation_loss")),
    ]
    if not any(line.points for line in losses):  # a phase without validation rows
        losses = [Line("train", "objective", phase.points("step", "objective"))]
    marked = None if best is None else (best["epoch"], best["validation_loss"])
    gap = Line("gap", "validation less training", phase.points("epoch", "gap"))
    rate = Line("rate", "learning rate", phase.points("step", "rate"))
    found = [
        Panel("loss", "epoch" if marked else "step", losses, marked),
        Panel("gap", "epoch", [gap]),
        Panel("learning rate", "step", [rate]),
    ]
    return [panel for panel in found if any(line.points for line in panel.lines)]


def printable(text: str) -> str:
    """A name from a file, without what a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in text[:_LONGEST_NAME])


def summary(phase: Phase) -> str:
    """Where the phase stands, in a line."""
    if not phase.epochs:
        return f"step {phase.steps[-1]['step'] + 1:,}"
    last, best = phase.epochs[-1], phase.best
    parts = [f"epoch {last['epoch']}"]
    if best is not None:
        parts.append(f"best: epoch {best['epoch']}")
        for key in ("train_loss", "validation_loss", "gap", "validation_metric"):
            if isinstance(value := best.get(key), int | float):
                name = str(best.get("metric")) if key == "validation_metric" else key
                parts.append(f"{printable(name).replace('_', ' ')} {value:.4g}")
    elif isinstance(value := last.get("objective"), int | float):
        parts.append(f"objective {value:.4g}")
    return ", ".join(parts)
