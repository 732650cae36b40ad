"""`headstock tenant` and `headstock key`: operators' commands, through the server."""

from enum import StrEnum
from typing import Annotated

import typer

from headstock.commands.common import DEFAULT_SERVER, AsJson, Key, Server, connect
from headstock.output import note, show_json, show_table

tenant_app = typer.Typer(no_args_is_help=True, help="Tenants.")
key_app = typer.Typer(no_args_is_help=True, help="Keys of a tenant.")

Tenant = Annotated[str, typer.Argument(help="The tenant's name.", metavar="TENANT")]


class CacheMode(StrEnum):
    """What may be done with the features of a tenant's inputs."""

    OFF = "off"
    OWN = "own"
    SHARED = "shared"


_CACHE_MEANS = {
    "off": "are not kept",
    "own": "may be kept, for this tenant alone",
    "shared": "may be kept, for all tenants that share",
}


@tenant_app.command("create")
def create_tenant(
    tenant: Tenant, server: Server = DEFAULT_SERVER, key: Key = "", json: AsJson = False
) -> None:
    """Create a tenant."""
    with connect(server, key) as client:
        created = client.create_tenant(tenant)
    if json:
        show_json(created)
    else:
        note(f"Created tenant {created['name']}.")


@tenant_app.command("list")
def list_tenants(server: Server = DEFAULT_SERVER, key: Key = "", json: AsJson = False) -> None:
    """List all tenants."""
    with connect(server, key) as client:
        found = client.list_tenants()
    if json:
        show_json(found)
    else:
        rows = [(each["name"], each["created_at"]) for each in found["tenants"]]
        show_table("Tenants", ("name", "created"), rows)


@tenant_app.command("cache")
def feature_cache(
    tenant: Tenant,
    mode: Annotated[
        CacheMode | None, typer.Argument(help="Set it to this; shows it otherwise.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """Show or set whether a server may keep features of a tenant's inputs.

    shared gives other sharing tenants a hint: by its speed, an answer can tell that somebody asked
    the same before.
    """
    with connect(server, key) as client:
        if mode is None:
            found = client.get_feature_cache(tenant)
        else:
            found = client.set_feature_cache(tenant, mode.value)
    if json:
        show_json(found)
    else:
        shown = found["mode"]
        note(f"Feature cache of {tenant}: {shown}; features of its inputs {_CACHE_MEANS[shown]}.")


@key_app.command("create")
def create_key(
    tenant: Tenant,
    scope: Annotated[str, typer.Option(help="predict, publish or both.")] = "predict,publish",
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """Create a key; its text is printed this once."""
    scopes = [part.strip() for part in scope.split(",") if part.strip()]
    with connect(server, key) as client:
        created = client.create_key(tenant, scopes)
    if json:
        show_json(created)
    else:
        note(f"Key {created['id']} of tenant {tenant}; this is shown once:")
        print(created["key"])


@key_app.command("list")
def list_keys(
    tenant: Tenant, server: Server = DEFAULT_SERVER, key: Key = "", json: AsJson = False
) -> None:
    """List a tenant's keys, revoked ones included."""
    with connect(server, key) as client:
        found = client.list_keys(tenant)
    if json:
        show_json(found)
    else:
        rows = [
            (each["id"], ", ".join(each["scopes"]), each["created_at"], each["revoked_at"] or "")
            for each in found["keys"]
        ]
        show_table(f"Keys of {tenant}", ("id", "scopes", "created", "revoked"), rows)


@key_app.command("revoke")
def revoke_key(
    tenant: Tenant,
    key_id: Annotated[str, typer.Argument(help="The key's id.", metavar="ID")],
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """Revoke a key."""
    with connect(server, key) as client:
        client.revoke_key(tenant, key_id)
    if json:
        show_json({"id": key_id, "revoked": True})
    else:
        note(f"Revoked key {key_id} of tenant {tenant}.")
