"""`headstock push`, `adapter`, `release`, `predict`: a tenant's commands, through the server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.errors import InvalidInput
from headstock.answers import prediction_table, truncation_note
from headstock.commands.common import (
    DEFAULT_SERVER,
    USUAL_PAGE,
    AfterName,
    AsJson,
    Key,
    PageSize,
    Server,
    connect,
    note_more,
    progress_bars,
    split_target,
)
from headstock.output import note, show_json, show_table

if TYPE_CHECKING:
    from headstock.client.answers import Release

release_app = typer.Typer(no_args_is_help=True, help="Which version of an adapter answers.")

adapter_app = typer.Typer(no_args_is_help=True, help="A tenant's adapters.")

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


@adapter_app.command("list")
def list_adapters(
    target: Annotated[
        str,
        typer.Argument(
            help="A tenant, or an adapter whose versions to list.", metavar="TENANT[/ADAPTER]"
        ),
    ],
    limit: PageSize = USUAL_PAGE,
    after: AfterName = None,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """List a tenant's adapters by name, or an adapter's versions, oldest first."""
    if "/" in target:
        _list_versions(target, limit, after, server, key, json)
        return
    with connect(server, key) as client:
        found = client.list_adapters(target, limit, after)
    if json:
        show_json(found)
        return
    rows = [
        (
            each["name"],
            each["release"]["stable"] if each["release"] else "none",
            each["latest_version"] or "none",
        )
        for each in found["adapters"]
    ]
    show_table(f"Adapters of {target}", ("name", "version that answers", "newest"), rows)
    note_more(found["next"])


def _list_versions(
    target: str, limit: int, after: str | None, server: str, key: str, json: bool
) -> None:
    tenant, adapter = split_target(target)
    if after is not None and not after.isdecimal():
        raise InvalidInput(f"--after {after!r} must be the number of a version")
    with connect(server, key) as client:
        found = client.list_versions(tenant, adapter, limit, None if after is None else int(after))
    if json:
        show_json(found)
        return
    rows = [
        (each["version"], each["created_at"], each["size"], f"{each['digest'][:12]}…")
        for each in found["versions"]
    ]
    show_table(f"Versions of {target}", ("number", "created", "bytes", "sha256"), rows)
    note_more(found["next"])


@adapter_app.command("delete")
def delete_adapter(
    target: Target,
    version: Annotated[
        int | None,
        typer.Option(help="Delete this version alone, which must not be released.", min=1),
    ] = None,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """Delete an adapter with its versions and its release, or one of its versions."""
    tenant, adapter = split_target(target)
    with connect(server, key) as client:
        if version is None:
            client.delete_adapter(tenant, adapter)
        else:
            client.delete_version(tenant, adapter, version)
    if json:
        show_json({"tenant": tenant, "adapter": adapter, "version": version, "deleted": True})
    else:
        what = f"{target}" if version is None else f"version {version} of {target}"
        note(f"Deleted {what}.")


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
    if answer["truncated"]:
        note(truncation_note(len(texts), answer["truncated"]))


def _show(target: str, release: "Release", json: bool) -> None:
    if json:
        show_json(release)
    else:
        note(f"{target}: version {release['stable']} answers (revision {release['revision']}).")
