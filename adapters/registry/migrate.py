"""Bring a database's tables up to date with alembic, from code alone."""

import threading
from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from adapters.errors import RegistryUnavailable

_FOLDER: Final = Path(__file__).parent / "migrations"
# alembic keeps what it works on in module globals.
_LOCK: Final = threading.Lock()


def is_current(connection: Connection, path: Path) -> bool:
    """Whether nothing is left to do.

    Raises:
        RegistryUnavailable: a newer Headstock, or another program, made the tables.
    """
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None and inspect(connection).get_table_names():
        raise RegistryUnavailable(f"{path} holds the tables of another program: give another path")
    if revision is not None and revision not in known_revisions():
        raise RegistryUnavailable(
            f"the registry's database {path} was made by a newer Headstock (schema "
            f"{revision!a}): update Headstock, or give another path"
        )
    return revision == _newest_revision()


@cache
def known_revisions() -> frozenset[str]:
    """The schemas that this Headstock can read and bring up to date."""
    return frozenset(each.revision for each in _script().walk_revisions())


@cache
def _newest_revision() -> str | None:
    return _script().get_current_head()


def upgrade(connection: Connection, path: Path) -> None:
    """Do what is left, inside the write transaction that `connection` is in.

    Raises:
        RegistryUnavailable: as `is_current`.
    """
    # Asked again under the write lock: another process may have done it meanwhile.
    if is_current(connection, path):
        return
    config = _config()
    config.attributes["connection"] = connection
    with _LOCK:
        command.upgrade(config, "head")


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    # A percent sign would start an interpolation.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
