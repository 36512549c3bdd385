"""A database brought to this version and opened: SQLite (write-ahead log) by default, PostgreSQL by its URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

from blemish.errors import MissingExtraError, OutputError, UsageError

__all__ = ["DATABASE_FILE", "migrate", "open_database", "sqlite_url"]

DATABASE_FILE = "blemish.sqlite3"
BUSY_MS = 30_000  # how long a writer waits for another one


def sqlite_url(data: Path) -> str:
    """The URL of the database in a data folder."""
    return f"sqlite:///{data / DATABASE_FILE}"


def open_database(url: str) -> Engine:
    """The database at this URL, made or brought to this version where needed.

    Raises:
        UsageError: The URL is none, or the database is that of a newer version.
        MissingExtraError: The driver for PostgreSQL is not installed.
        OutputError: It cannot be opened or written.
    """
    shown = _shown(url)
    try:
        engine = _engine(url)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError(f"{shown}: is no URL of a database, as postgresql://user@host/name is") from error
    except ImportError as error:
        raise MissingExtraError("psycopg", "postgres", "PostgreSQL") from error
    try:
        with engine.begin() as connection:
            migrate(connection, shown=shown)
    except OperationalError as error:
        engine.dispose()
        raise OutputError(f"{shown}: the database cannot be opened ({_first_line(error)})") from error
    except SQLAlchemyError as error:
        engine.dispose()
        raise OutputError(f"{shown}: is not a database of this program ({_first_line(error)})") from error
    except UsageError:
        engine.dispose()
        raise
    return engine


def migrate(connection: Connection, *, revision: str = "head", shown: str = "the database") -> None:
    """Brings a database to a revision, the newest by default; UsageError where it is that of a newer version."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise UsageError(
            f"{shown}: was made by a newer version of Blemish (its revision is {current}): update Blemish, or restore a backup"
        )
    command.upgrade(config, revision)


def _engine(url: str) -> Engine:
    address = make_url(url)
    if address.drivername in ("postgres", "postgresql"):
        address = address.set(drivername="postgresql+psycopg")
    if not address.drivername.startswith("sqlite"):
        return create_engine(address, pool_pre_ping=True, pool_size=8, max_overflow=16)
    engine = create_engine(address, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # this module begins transactions itself, and a writer as a writer
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # what was accepted survives a power cut
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a reader that writes later could find itself behind another writer, and would have to start over
        reads = connection.get_execution_options().get("blemish_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _shown(url: str) -> str:
    """The URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "the database"


def _first_line(error: SQLAlchemyError) -> str:
    text = str(getattr(error, "orig", None) or error)
    return text.strip().partition("\n")[0].strip()
