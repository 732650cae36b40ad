"""`headstock serve`: the service of `bentoml serve service:Headstock`, in this very process."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from adapters.errors import InvalidInput
from headstock.commands.common import settings


def serve(
    backbone: Annotated[
        list[str] | None, typer.Option(help="Backbone to serve; all that were added by default.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port.", min=1, max=65535)] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="gRPC port; 0: no gRPC.", min=0, max=65535)
    ] = None,
) -> None:
    """Serve until stopped."""
    given = {
        "BACKBONES": ",".join(backbone) if backbone else None,
        "HOST": host,
        "PORT": port,
        "GRPC_PORT": grpc_port,
    }
    for name, value in given.items():
        if value not in (None, ""):  # an option of an unset variable is none
            os.environ[f"HEADSTOCK_{name}"] = str(value)
    _check()
    os.environ.update(server_environment())
    from service.server import run

    run()


def command() -> list[str]:
    """The command line of a server."""
    return [sys.executable, "-m", "headstock", "serve"]


def server_environment() -> dict[str, str]:
    """This process's environment, with the state where this process would look for it."""
    current = settings()
    home = current.home.absolute()
    return {
        **os.environ,
        "BENTOML_HOME": os.environ.get("BENTOML_HOME") or str(current.bentoml_home),
        "HEADSTOCK_HOME": str(home),
        "HEADSTOCK_DATABASE_URL": current.registry_url,
    }


def _check() -> None:
    """Say now, in one line, what the server would fail at later, in many."""
    from service.backbones import backbone_folders
    from service.ports import check_ports
    from service.tls import tls_files

    current = settings()
    backbone_folders(current)
    scratch = Path(server_environment()["BENTOML_HOME"])
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"the folder {scratch} cannot be made: {error.strerror}") from error
    tls_files(current)
    check_ports(current)
