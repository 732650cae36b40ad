"""`headstock import`: what PEFT saved to an adapter file."""

from pathlib import Path
from typing import Annotated

import typer

from adapters.manifest import TaskName
from headstock.commands.common import AsJson, feature_cache, open_backbone, progress_bars
from headstock.commands.train import AnyBase, Name, Output, show_trained


def import_peft(
    folder: Annotated[
        Path,
        typer.Argument(
            help="What PEFT saved: adapter_config.json and adapter_model.safetensors.",
            metavar="FOLDER",
        ),
    ],
    backbone: Name,
    output: Output,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels in the order of the head's outputs: a,b,c, or a file with a label a line; "
            "those of FOLDER's config.json by default.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        TaskName | None,
        typer.Option(help="What the head does, where FOLDER does not say.", show_default=False),
    ] = None,
    any_base: AnyBase = False,
    json: AsJson = False,
) -> None:
    """Make an adapter of a LoRA and head that PEFT saved, as they are."""
    from adapters.container import write_file
    from training.output import check_output
    from training.peft.convert import import_adapter
    from training.peft.folder import CONFIG, TENSORS
    from training.peft.labels import read_labels

    check_output(output, folder / CONFIG, folder / TENSORS)
    names = None if labels is None else read_labels(labels)
    opened = open_backbone(backbone)
    with progress_bars() as stage:
        result = import_adapter(folder, opened, feature_cache(), stage, names, task, any_base)
    write_file(output, result.content)
    show_trained(output, result, result.manifest.findings, None, json)
