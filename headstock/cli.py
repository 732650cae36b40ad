"""`headstock`: the commands, and one place where refusals become an exit status."""

import sys

import typer

from adapters.errors import HeadstockError
from backbone.errors import BackboneError
from headstock.commands.adapters import predict, push, release_app
from headstock.commands.backbone import backbone_app
from headstock.commands.serve import serve
from headstock.commands.tenants import key_app, tenant_app
from headstock.commands.train import evaluate, inspect, train
from headstock.demo import demo
from headstock.output import note, show_json

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A model of its own for every tenant, on one shared frozen backbone.",
)
app.command()(demo)
app.add_typer(backbone_app, name="backbone")
app.command()(train)
app.command()(evaluate)
app.command()(inspect)
app.add_typer(tenant_app, name="tenant")
app.add_typer(key_app, name="key")
app.command()(push)
app.add_typer(release_app, name="release")
app.command()(predict)
app.command()(serve)


def main() -> None:
    """Exit status 0: done; 1: refused or failed, with the reason; 2: wrong usage."""
    try:
        app()
    except (HeadstockError, BackboneError) as error:
        note(f"Error: {error}")
        if "--json" in sys.argv:
            show_json({"error": {"code": error.code, "message": str(error)}})
        sys.exit(1)
    except KeyboardInterrupt:
        note("Interrupted.")
        sys.exit(130)
