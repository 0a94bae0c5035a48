"""Alembic's entry: runs on the connection that the store hands over, inside its transaction."""

from alembic import context

from tieout.store.models import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
context.run_migrations()
