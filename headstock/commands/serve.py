"""`headstock serve`: the same server as `bentoml serve service:Headstock`."""

import os
import socket
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
) -> None:
    """Serve until stopped."""
    for name, value in (("BACKBONES", ",".join(backbone or ())), ("HOST", host), ("PORT", port)):
        if value:
            os.environ[f"HEADSTOCK_{name}"] = str(value)
    _check()
    os.execve(sys.executable, command(), server_environment())


def command() -> list[str]:
    """The command line of a server.

    The working folder is the installation's: a folder `service` of the user's would otherwise be
    imported in place of ours.
    """
    import service

    installation = Path(service.__file__ or "").parent.parent
    where = ("--working-dir", str(installation))
    # Longer than any request may take; a client that does not read its answer ends nothing.
    patience = ("--timeout-graceful-shutdown", "12")
    return [sys.executable, "-m", "bentoml", "serve", "service:Headstock", *where, *patience]


def server_environment() -> dict[str, str]:
    """This process's environment, with the state where this process would look for it."""
    home = settings().home.absolute()
    return {
        "BENTOML_HOME": str(home / "bentoml"),
        **os.environ,
        "HEADSTOCK_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
    }


def _check() -> None:
    """Say now, in one line, what the server would fail at later, in many."""
    from service.runtime import backbone_folders

    current = settings()
    backbone_folders(current)
    scratch = Path(server_environment()["BENTOML_HOME"])
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"the folder {scratch} cannot be made: {error.strerror}") from error
    with socket.socket(socket.AF_INET6 if ":" in current.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((current.host, current.port))
        except OSError as error:
            raise InvalidInput(
                f"cannot listen on {current.host}:{current.port}: {error.strerror}; choose "
                "another with --port"
            ) from error
