"""`headstock curves`: how a training went, or goes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headstock.commands.common import AsJson, settings
from headstock.output import note, show_json

if TYPE_CHECKING:
    from training.curves import Phase

_WIDEST = 120  # characters; a wider drawing says no more
_HEIGHTS = {"loss": 12, "gap": 6, "learning rate": 6}
_IMAGES = (".png", ".svg")


def curves(
    run: Annotated[
        Path,
        typer.Argument(
            help="The run folder of a training with --lora, finished or under way, or one .jsonl "
            "file in it.",
            metavar="RUN",
        ),
    ],
    image: Annotated[
        Path | None,
        typer.Option(help="Draw into this file in place of the terminal: .png or .svg."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Draw the losses, their gap and the learning rate of a training."""
    from training.curves import read_phases

    if image is not None and image.suffix.lower() not in _IMAGES:
        raise typer.BadParameter(f"{image} must end with .png or .svg", param_hint="--image")
    phases = read_phases(run)
    if image is not None:
        _write_image(phases, image, run)
    if json:
        show_json({"phases": [_as_json(phase) for phase in phases]})
    elif image is None:
        _show(phases)


def _write_image(phases: "list[Phase]", image: Path, run: Path) -> None:
    from adapters.container import write_file

    # Its list of fonts, which takes a second to make: in the user's own folders by default.
    os.environ.setdefault("MPLCONFIGDIR", str(settings().home.absolute() / "matplotlib"))
    from headstock.plots.image import render
    from training.output import check_output

    check_output(image, run)
    write_file(image, render(phases, image.suffix.lower()))
    note(f"Wrote {image}.")


def _show(phases: "list[Phase]") -> None:
    from headstock.plots.panels import panels, printable, summary
    from headstock.plots.terminal import ASCII, UNICODE, draw

    console = Console(highlight=False)
    glyphs = UNICODE if console.encoding.lower().startswith("utf") else ASCII
    for phase in phases:
        console.print(f"{printable(phase.name)}: {summary(phase)}", markup=False, soft_wrap=True)
        for panel in panels(phase):
            text = draw(panel, min(console.width, _WIDEST), _HEIGHTS[panel.title], glyphs)
            console.print(text, soft_wrap=True)


def _as_json(phase: "Phase") -> dict[str, object]:
    best = phase.best
    return {
        "phase": phase.name,
        "best_epoch": None if best is None else best["epoch"],
        "epochs": phase.epochs,
        "steps": phase.steps,
    }
