"""`headstock registry`: copies of the registry, made and restored where its file is."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstock.commands.common import AsJson, progress_bars, settings
from headstock.output import note, show_json

if TYPE_CHECKING:
    from adapters.registry.verify import Contents

registry_app = typer.Typer(no_args_is_help=True, help="The database of tenants and adapters.")


@registry_app.command("backup")
def make_backup(
    file: Annotated[Path, typer.Argument(help="Where to write the backup.", metavar="FILE")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite FILE if it exists.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Copy the registry to a file, which is checked in full; servers may go on writing."""
    from adapters.registry.backup import backup

    with progress_bars() as stage:
        contents = backup(settings().registry_url, file, replace=replace, stage=stage)
    if json:
        show_json({"file": str(file.absolute()), **asdict(contents)})
        return
    note(f"{file}: {_described(contents)}.")


@registry_app.command("restore")
def restore_backup(
    file: Annotated[Path, typer.Argument(help="A backup.", metavar="FILE")], json: AsJson = False
) -> None:
    """Replace the registry's content with a backup, which is checked in full before.

    Servers that run on this machine follow within a second. What was in the registry is kept in a
    file beside it.
    """
    from adapters.registry.restore import restore

    with progress_bars() as stage:
        restored = restore(settings().registry_url, file, stage=stage)
    if json:
        kept = None if restored.kept is None else str(restored.kept)
        show_json({"file": str(file.absolute()), **asdict(restored.contents), "kept": kept})
        return
    note(f"Restored {file}: {_described(restored.contents)}.")
    if restored.kept is not None:
        note(f"What was there before is in {restored.kept}.")


def _described(contents: "Contents") -> str:
    return (
        f"tenants {contents.tenants}, versions {contents.versions}, changes {contents.changes}, "
        f"bytes {contents.bytes}"
    )
