"""One database, SQLite file or PostgreSQL: connections, write transactions safe between processes, migrations.

SQLite runs in WAL mode and a write transaction takes the write lock when it begins, so two processes queue
instead of failing half way; PostgreSQL runs at READ COMMITTED and rows that must not move are locked.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, inspect, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tieout.errors import StoreError
from tieout.settings import private_folder

MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_SECONDS = 30
_BUSY_TRIES = 5
_MIGRATION_LOCK = 7418529630  # any constant of our own: PostgreSQL's advisory lock while tables are created


class Database:
    """Connections to the store. No pool: a forked process must never inherit an open connection."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        if self.url.drivername in ("postgres", "postgresql"):
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite and not self.url.database:
            raise StoreError("the store needs a file, not a database in memory", got=str(self.url))
        self.engine = self._engine()

    def _engine(self) -> Engine:
        if not self.sqlite:
            return create_engine(self.url, poolclass=NullPool)
        file = Path(str(self.url.database))
        private_folder(file.parent)
        file.touch(mode=0o600)  # SQLite gives its log and index beside it the same mode
        engine = create_engine(self.url, poolclass=NullPool, connect_args={"timeout": _BUSY_SECONDS})
        event.listen(engine, "connect", _sqlite_connection)
        event.listen(engine, "begin", _sqlite_begin)
        return engine

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A write transaction: committed when the block ends, rolled back when it raises."""
        with self._begin(write=True) as connection, Session(connection, expire_on_commit=False) as session:
            yield session
            session.flush()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A read transaction on one snapshot."""
        with self._begin(write=False) as connection, Session(connection, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def _begin(self, *, write: bool) -> Iterator[Connection]:
        with self.engine.connect() as raw:
            connection = raw.execution_options(tieout_write=write)
            for attempt in range(1, _BUSY_TRIES + 1):
                try:
                    connection.begin()
                    break
                except OperationalError as error:
                    # only the lock is waited for here: nothing of the block has run yet, so trying again is safe
                    if attempt == _BUSY_TRIES or ("locked" not in str(error) and "busy" not in str(error)):
                        raise
                    time.sleep(0.05 * attempt)
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def upgrade(self) -> None:
        """Create or migrate every table; several processes may call it at once."""
        from alembic import command
        from alembic.config import Config

        if self.sqlite:
            with sqlite3.connect(str(self.url.database), timeout=_BUSY_SECONDS) as raw:
                raw.execute("PRAGMA journal_mode=WAL")
            raw.close()
        with self._begin(write=True) as connection:
            if not self.sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def ready(self) -> bool:
        """Whether the store's tables exist."""
        with self.engine.connect() as connection:
            return inspect(connection).has_table("runs")


def _sqlite_connection(dbapi: Any, _record: Any) -> None:
    # the driver's own transaction handling is off: `_sqlite_begin` says when and how one begins
    dbapi.isolation_level = None
    dbapi.execute("PRAGMA foreign_keys=ON")
    dbapi.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000}")
    dbapi.execute("PRAGMA synchronous=FULL")


def _sqlite_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("tieout_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
