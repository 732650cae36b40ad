"""The history that a database is in: its random id, and how far it has come."""

from sqlalchemy import Connection, delete, insert, select

from adapters.errors import RegistryUnavailable
from adapters.registry.identity import new_history, next_generation, short_history
from adapters.registry.tables import history


def read_history(connection: Connection) -> str:
    """The id. Raises RegistryUnavailable where there is none, which is damage."""
    found: str | None = connection.scalar(select(history.c.id))
    if found is None:
        raise RegistryUnavailable(
            "the registry's database has lost its id: restore a backup with "
            "`headstock registry restore`"
        )
    return found


def begin_history(connection: Connection, generation: int) -> str:
    """Give the database a new id, at this generation, and return it."""
    started = new_history()
    connection.execute(delete(history))
    connection.execute(insert(history).values(id=started))
    connection.exec_driver_sql(f"PRAGMA application_id = {short_history(started)}")
    connection.exec_driver_sql(f"PRAGMA user_version = {generation}")
    return started


def read_generation(connection: Connection) -> int:
    """Count the write transactions; 0: the database is a backup, or older than revision 0005."""
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def advance(connection: Connection) -> None:
    """Count the write transaction that `connection` is in."""
    following = next_generation(read_generation(connection))
    connection.exec_driver_sql(f"PRAGMA user_version = {following}")
