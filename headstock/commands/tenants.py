"""`headstock tenant` and `headstock key`: operators' commands, through the server."""

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from adapters.errors import InvalidInput
from headstock.commands.common import (
    DEFAULT_SERVER,
    USUAL_PAGE,
    AfterName,
    AfterNumber,
    AsJson,
    Key,
    PageSize,
    Server,
    connect,
    note_more,
)
from headstock.output import note, show_json, show_table

if TYPE_CHECKING:
    from headstock.client.answers import NewKey, Quota

tenant_app = typer.Typer(no_args_is_help=True, help="Tenants.")
key_app = typer.Typer(no_args_is_help=True, help="Keys of a tenant.")

Tenant = Annotated[str, typer.Argument(help="The tenant's name.", metavar="TENANT")]
Limit = Annotated[str | None, typer.Option(help="At most so many; none: without a limit.")]
Expires = Annotated[
    str | None, typer.Option(help="How long the new key works, such as 90d; for good by default.")
]


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
def list_tenants(
    limit: PageSize = USUAL_PAGE,
    after: AfterName = None,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """List tenants by name."""
    with connect(server, key) as client:
        found = client.list_tenants(limit, after)
    if json:
        show_json(found)
    else:
        rows = [(each["name"], each["created_at"]) for each in found["tenants"]]
        show_table("Tenants", ("name", "created"), rows)
        note_more(found["next"])


@tenant_app.command("delete")
def delete_tenant(
    tenant: Tenant, server: Server = DEFAULT_SERVER, key: Key = "", json: AsJson = False
) -> None:
    """Delete a tenant with its keys, quota, adapters, versions and releases."""
    with connect(server, key) as client:
        client.delete_tenant(tenant)
    if json:
        show_json({"name": tenant, "deleted": True})
    else:
        note(f"Deleted tenant {tenant} with all that it had.")


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


@tenant_app.command("quota")
def quota(
    tenant: Tenant,
    adapters: Limit = None,
    versions: Limit = None,
    bytes: Limit = None,  # noqa: A002  # the option's name
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """Show what a tenant may have and ask at most, or set the limits that are given."""
    given = {
        "adapters": adapters,
        "versions": versions,
        "bytes": bytes,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
    }
    wanted = {name: _limit(name, text) for name, text in given.items() if text is not None}
    with connect(server, key) as client:
        found = client.get_quota(tenant)
        if wanted:
            found = client.set_quota(tenant, cast("Quota", {**found, **wanted}))
    if json:
        show_json(found)
    else:
        rows = [(name, "none" if limit is None else limit) for name, limit in found.items()]
        show_table(f"Limits of {tenant}", ("what", "most"), rows)


@tenant_app.command("usage")
def usage(
    tenant: Tenant, server: Server = DEFAULT_SERVER, key: Key = "", json: AsJson = False
) -> None:
    """Show what a tenant has, and has used of the server since that started."""
    with connect(server, key) as client:
        found = client.get_usage(tenant)
    if json:
        show_json(found)
    else:
        show_table(f"Usage of {tenant}", ("what", ""), list(found.items()))


def _limit(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise InvalidInput(f"--{name.replace('_', '-')} {text!r} must be a whole number, or none")
    return int(text)


@key_app.command("create")
def create_key(
    tenant: Tenant,
    scope: Annotated[str, typer.Option(help="predict, publish or both.")] = "predict,publish",
    expires: Expires = None,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """Create a key; its text is printed this once."""
    scopes = [part.strip() for part in scope.split(",") if part.strip()]
    lifetime_s = _seconds(expires, "--expires")
    with connect(server, key) as client:
        created = client.create_key(tenant, scopes, lifetime_s)
    _show_key(tenant, created, json)


@key_app.command("rotate")
def rotate_key(
    tenant: Tenant,
    key_id: Annotated[str, typer.Argument(help="The old key's id.", metavar="ID")],
    overlap: Annotated[
        str, typer.Option(help="How long the old key still works, such as 12h; 0s: no longer.")
    ] = "1d",
    expires: Expires = None,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """Create a key with the scopes of another, which ends after a while."""
    overlap_s, lifetime_s = _seconds(overlap, "--overlap"), _seconds(expires, "--expires")
    with connect(server, key) as client:
        created = client.rotate_key(tenant, key_id, overlap_s or 0, lifetime_s)
    _show_key(tenant, created, json)


def _show_key(tenant: str, created: "NewKey", json: bool) -> None:
    if json:
        show_json(created)
        return
    ends = f", until {created['expires_at']}" if created["expires_at"] else ""
    note(f"Key {created['id']} of tenant {tenant}{ends}; this is shown once:")
    print(created["key"])


def _seconds(text: str | None, option: str) -> int | None:
    """A length of time: a whole number with its unit, s, m, h or d. Raises InvalidInput."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text, re.ASCII)
    if match is None:
        raise InvalidInput(f"{option} {text!r} must be a number with a unit: 30s, 15m, 12h, 90d")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]


@key_app.command("list")
def list_keys(
    tenant: Tenant,
    limit: PageSize = USUAL_PAGE,
    after: AfterName = None,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """List a tenant's keys, those that ended included, oldest first."""
    with connect(server, key) as client:
        found = client.list_keys(tenant, limit, after)
    if json:
        show_json(found)
    else:
        rows = [
            (
                each["id"],
                ", ".join(each["scopes"]),
                each["created_at"],
                each["revoked_at"] or "",
                each["expires_at"] or "",
            )
            for each in found["keys"]
        ]
        columns = ("id", "scopes", "created", "revoked", "expires")
        show_table(f"Keys of {tenant}", columns, rows)
        note_more(found["next"])


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


def audit(
    tenant: Annotated[
        str | None, typer.Argument(help="A tenant; all by default, with an admin's key.")
    ] = None,
    limit: PageSize = USUAL_PAGE,
    after: AfterNumber = None,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    json: AsJson = False,
) -> None:
    """List changes, newest first: which key did what, and when."""
    with connect(server, key) as client:
        found = client.list_audit(tenant, limit, after)
    if json:
        show_json(found)
        return
    rows = [
        (
            each["seq"],
            each["at"],
            each["actor"],
            each["action"],
            "/".join(part for part in (each["tenant"], each["adapter"]) if part),
            ", ".join(f"{name} {value}" for name, value in each["detail"].items()),
        )
        for each in found["changes"]
    ]
    show_table("Changes", ("number", "at", "key", "change", "of", "detail"), rows)
    note_more(found["next"])
