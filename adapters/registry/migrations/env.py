"""alembic's environment: it runs inside the transaction that `adapters.registry.migrate` opens."""

from alembic import context

from adapters.registry.tables import metadata

connection = context.config.attributes["connection"]
# SQLite cannot alter a column: batch mode makes the table anew.
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
