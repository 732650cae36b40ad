"""`headstock`: the commands, and one place where refusals become an exit status."""

import sys
from typing import Annotated, NoReturn

import typer

from adapters.errors import HeadstockError
from backbone.errors import BackboneError
from headstock.commands.adapters import adapter_app, predict, push, release_app
from headstock.commands.backbone import backbone_app
from headstock.commands.curves import curves
from headstock.commands.measure import evaluate, inspect
from headstock.commands.peft import import_peft
from headstock.commands.registry import registry_app
from headstock.commands.serve import serve
from headstock.commands.tenants import audit, key_app, tenant_app
from headstock.commands.train import train
from headstock.demo import demo
from headstock.output import note, show_json
from service import VERSION
from training.errors import InvalidRecipe


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"headstock {VERSION}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A model of its own for every tenant, on one shared frozen backbone.",
)


@app.callback()
def _headstock(
    version: Annotated[  # the callback answers it
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print it and end."),
    ] = False,
) -> None:
    pass


app.command()(demo)
app.add_typer(backbone_app, name="backbone")
app.command()(train)
app.command("import")(import_peft)
app.command()(evaluate)
app.command()(inspect)
app.command()(curves)
app.add_typer(tenant_app, name="tenant")
app.add_typer(key_app, name="key")
app.command()(audit)
app.command()(push)
app.add_typer(adapter_app, name="adapter")
app.add_typer(release_app, name="release")
app.command()(predict)
app.add_typer(registry_app, name="registry")
app.command()(serve)


# What `pip install headstock` leaves out, by the names that are imported.
_TRAIN = ("train", "all that training needs")
_EXTRAS = dict.fromkeys(
    ("onnx", "onnxscript", "optuna", "polars", "scipy", "sklearn", "torch", "transformers"), _TRAIN
) | {"matplotlib": ("plots", "what images need"), "ray": ("train,ray", "all that clusters need")}


def main() -> None:
    """Exit status 0: done; 1: refused or failed, with the reason; 2: wrong usage."""
    try:
        app()
    except InvalidRecipe as error:
        _fail(error.code, str(error), status=2)  # settings are usage, whichever way they are given
    except (HeadstockError, BackboneError) as error:
        _fail(error.code, str(error))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        extra, what = _EXTRAS[missing]
        _fail(
            "not-installed",
            f"this command needs {missing}, which is not installed; get {what} with: "
            f"pip install 'headstock[{extra}]'",
        )
    except KeyboardInterrupt:
        note("Interrupted.")
        sys.exit(130)


def _fail(code: str, message: str, status: int = 1) -> NoReturn:
    note(f"Error: {message}")
    if "--json" in sys.argv:
        show_json({"error": {"code": code, "message": message}})
    sys.exit(status)
