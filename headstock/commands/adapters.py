"""`headstock push`, `release`, `predict`: a tenant's commands, through the server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstock.answers import prediction_table
from headstock.commands.common import (
    DEFAULT_SERVER,
    AsJson,
    Key,
    Server,
    connect,
    progress_bars,
    split_target,
)
from headstock.output import note, show_json, show_table

if TYPE_CHECKING:
    from headstock.client.answers import Release

release_app = typer.Typer(no_args_is_help=True, help="Which version of an adapter answers.")

Target = Annotated[str, typer.Argument(help="The adapter.", metavar="TENANT/ADAPTER")]


def push(
    file: Annotated[Path, typer.Argument(help="The adapter file.", exists=True, dir_okay=False)],
    tenant: Annotated[str, typer.Option(help="The tenant.")],
    name: Annotated[str, typer.Option(help="The adapter's name.")],
    activate: Annotated[bool, typer.Option("--activate", help="Let it answer at once.")] = False,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """Upload an adapter file as a new version."""
    from adapters.adapter import read_adapter_file

    tenant, name = split_target(f"{tenant}/{name}")
    read_adapter_file(file)  # what no server would take is said before it is sent
    with connect(server, key) as client, progress_bars() as stage:
        pushed = client.push(file, tenant, name, activate, stage("bytes sent"))
    if json:
        show_json(pushed)
        return
    known = "" if pushed["created"] else " (these bytes were there already)"
    note(f"{tenant}/{name} version {pushed['version']}, sha256 {pushed['digest'][:12]}…{known}")
    answering = None if pushed["release"] is None else pushed["release"]["stable"]
    if answering == pushed["version"]:
        note("It answers.")
    else:
        still = "Nothing answers yet" if answering is None else f"Version {answering} still answers"
        note(f"{still}; switch with: headstock release set {tenant}/{name} {pushed['version']}")


@release_app.command("show")
def show_release(
    target: Target, server: Server = DEFAULT_SERVER, key: Key = "", json: AsJson = False
) -> None:
    """Show which version answers."""
    tenant, adapter = split_target(target)
    with connect(server, key) as client:
        _show(target, client.get_release(tenant, adapter), json)


@release_app.command("set")
def set_release(
    target: Target,
    version: Annotated[int, typer.Argument(help="The version's number.", min=1)],
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """Let another version answer."""
    tenant, adapter = split_target(target)
    with connect(server, key) as client:
        _show(target, client.set_release(tenant, adapter, version), json)


@release_app.command("rollback")
def rollback(
    target: Target, server: Server = DEFAULT_SERVER, key: Key = "", json: AsJson = False
) -> None:
    """Let the version before answer again; once more, the one before that."""
    tenant, adapter = split_target(target)
    with connect(server, key) as client:
        _show(target, client.rollback(tenant, adapter), json)


def predict(
    target: Target,
    texts: Annotated[list[str], typer.Argument(help="Texts to answer.", metavar="TEXT...")],
    top_k: Annotated[int, typer.Option(help="Labels to show for each text.", min=1)] = 1,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """Answer texts with a tenant's adapter."""
    tenant, adapter = split_target(target)
    with connect(server, key) as client:
        answer = client.predict(tenant, adapter, texts, top_k)
    if json:
        show_json(answer)
        return
    title = f"{target}, version {answer['adapter']['version']}"
    show_table(title, *prediction_table(texts, answer["predictions"]))


def _show(target: str, release: "Release", json: bool) -> None:
    if json:
        show_json(release)
    else:
        note(f"{target}: version {release['stable']} answers (revision {release['revision']}).")
