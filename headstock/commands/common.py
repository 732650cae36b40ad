"""What commands share: options, progress, the client, where things are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from adapters.errors import InvalidInput
from headstock.output import note, stderr

if TYPE_CHECKING:
    from backbone import Backbone
    from headstock.client import Client
    from service.settings import Settings
    from training.features import FeatureCache

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Server = Annotated[
    str, typer.Option(envvar="HEADSTOCK_SERVER", help="Address of the server.", metavar="URL")
]
Key = Annotated[
    str,
    typer.Option(envvar="HEADSTOCK_KEY", help="Key to use.", metavar="KEY", show_default=False),
]
PageSize = Annotated[
    int, typer.Option("--limit", help="How many to list, at most.", min=1, max=1000)
]
AfterName = Annotated[
    str | None, typer.Option("--after", help="List what follows this one.", metavar="NAME")
]
AfterNumber = Annotated[
    int | None, typer.Option("--after", help="List what follows this one.", min=1)
]
USUAL_PAGE = 100
DEFAULT_SERVER = "http://127.0.0.1:8000"


def connect(server: str, key: str) -> "Client":
    """A client. Raises InvalidInput for a key or an address that no request can be sent with."""
    from httpx import InvalidURL

    from headstock.client import Client, Retry

    server = server.strip() or DEFAULT_SERVER
    if not server.startswith(("http://", "https://")):
        raise InvalidInput(f"the server {server!r} must begin with http:// or https://")
    # A line end comes along where a key is read from a file, "Bearer" where it is copied from curl.
    key = key.strip().removeprefix("Bearer ").strip()
    if not key:
        raise InvalidInput(
            "no key: set HEADSTOCK_KEY or give --key (the server prints an admin key at its first "
            "start)"
        )
    if not (key.isascii() and key.isprintable()):
        raise InvalidInput("the key has characters that no key has; copy it once more")
    try:
        # Who types a command is told at once that there is no server.
        return Client(server, key, Retry(reconnects=False))
    except InvalidURL as error:
        raise InvalidInput(f"{server!r} is not the address of a server: {error}") from error


def note_more(following: str | int | None) -> None:
    """Say how to go on where a list has more."""
    if following is not None:
        note(f"There are more: --after {following}")


def split_target(target: str) -> tuple[str, str]:
    """TENANT/ADAPTER to its parts. Raises InvalidInput, InvalidName."""
    from adapters.names import check_name

    tenant, slash, adapter = target.partition("/")
    if not slash:
        raise InvalidInput(f"{target!r} must be TENANT/ADAPTER")
    return check_name("tenant", tenant), check_name("adapter", adapter)


def settings() -> "Settings":
    """The settings from the environment. Raises InvalidInput naming the variable."""
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        said = first["msg"].removeprefix("Value error, ")
        if first["loc"]:  # else it is about several, and names them
            said = f"HEADSTOCK_{'_'.join(map(str, first['loc'])).upper()}: {said}"
        raise InvalidInput(said) from error


def open_backbone(name: str) -> "Backbone":
    """An added backbone by its name, verified. Raises BackboneNotFound, BackboneError."""
    from backbone import find_backbone, load_backbone

    return load_backbone(find_backbone(settings().backbones_folder, name))


def feature_cache() -> "FeatureCache":
    """Training's cache under the home."""
    from training.features import FeatureCache

    return FeatureCache(settings().home / "features.sqlite")


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Progress on standard error: call with a stage's name, get its `(done, total)` reporter."""
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=not stderr.is_terminal) as progress:

        def stage(name: str) -> Callable[[int, int], None]:
            task = progress.add_task(name, total=None)

            def report(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            return report

        yield stage
