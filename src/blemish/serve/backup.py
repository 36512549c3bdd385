"""Backup and restore: database, images and profiles of a data folder in one file, while the service runs."""

from __future__ import annotations

import json
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import insert, inspect, select, text
from sqlalchemy.engine import Engine

from blemish.errors import OutputError, UsageError
from blemish.io.atomic import replace_file
from blemish.serve.data_folder import IMAGES, MAPS, PROFILES, VOCABULARIES, DataFolder
from blemish.serve.database.opening import DATABASE_FILE, open_database, sqlite_url
from blemish.serve.database.tables import tables

__all__ = ["back_up", "restore"]

ROWS = "rows"  # folder of the tables of a database that is no file
CHUNK = 1000


def back_up(data: Path, database: str | None, out: Path) -> int:
    """Writes everything into the tar file `out`; how many files are in it.

    The database comes first: an image that is added meanwhile is not in it, and none that it names is missing, unless
    retention removed it, as it would have.

    Raises:
        UsageError: There is no database in the folder.
        OutputError: The file cannot be written.
    """
    data = data.expanduser().resolve()
    if database is None and not (data / DATABASE_FILE).is_file():
        raise UsageError(f"{data}: holds no data of blemish serve")
    count = 0
    with replace_file(out) as temporary, tarfile.open(temporary, "w") as archive, tempfile.TemporaryDirectory() as held:
        for path, name in _database_files(data, database, Path(held)):
            archive.add(path, name)
            count += 1
        for folder in (IMAGES, MAPS, PROFILES, VOCABULARIES):
            for path in sorted((data / folder).rglob("*")):
                if path.is_file() and not path.name.endswith(".tmp"):
                    try:
                        archive.add(path, path.relative_to(data).as_posix(), recursive=False)
                    except FileNotFoundError:  # thinned out meanwhile
                        continue
                    count += 1
    return count


def restore(archive: Path, data: Path, database: str | None = None) -> None:
    """Puts a backup into a new or empty data folder, and into an empty database where one is named.

    Raises:
        UsageError: The file is no backup, or folder or database are not empty.
    """
    data = data.expanduser().resolve()
    if data.is_dir() and any(data.iterdir()):
        raise UsageError(f"{data}: is not empty; restore into a new folder with --data")
    try:
        with tarfile.open(archive) as backup:
            names = set(backup.getnames())
            if DATABASE_FILE not in names and not any(name.startswith(f"{ROWS}/") for name in names):
                raise UsageError(f"{archive}: is no backup of blemish serve")
            folder = DataFolder(data)
            try:
                backup.extractall(data, filter="data")
            finally:
                folder.close()
    except (OSError, tarfile.TarError) as error:
        raise UsageError(f"{archive}: the backup cannot be read ({error})") from error
    if (data / ROWS).is_dir():
        _fill(open_database(database or sqlite_url(data)), data / ROWS)
    elif database is not None:
        raise UsageError(f"{archive}: was made of an SQLite database, and goes into one: leave --database out")
    else:
        open_database(sqlite_url(data)).dispose()  # to this version


def _database_files(data: Path, database: str | None, held: Path) -> Iterable[tuple[Path, str]]:
    if database is None:
        copy = held / DATABASE_FILE
        with (
            closing(sqlite3.connect(f"file:{data / DATABASE_FILE}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        yield copy, DATABASE_FILE
        return
    engine = open_database(database)
    with engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ", stream_results=True)
        for table in tables.sorted_tables:
            path = held / f"{table.name}.jsonl"
            with path.open("w", encoding="utf-8") as stream:
                for row in connection.execute(select(table)):
                    stream.write(json.dumps(dict(row._mapping)) + "\n")
            yield path, f"{ROWS}/{path.name}"
    engine.dispose()


def _fill(engine: Engine, rows: Path) -> None:
    """Reads the rows of a backup into an empty database."""
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            if connection.execute(select(table).limit(1)).first() is not None:
                raise UsageError(f"the database holds rows already ({table.name}); restore into an empty one")
            chunk: list[dict[str, Any]] = []
            path = rows / f"{table.name}.jsonl"
            if not path.is_file():
                raise OutputError(f"{path.name}: is missing in the backup")
            with path.open(encoding="utf-8") as stream:
                for line in stream:
                    chunk.append(json.loads(line))
                    if len(chunk) == CHUNK:
                        connection.execute(insert(table), chunk)
                        chunk = []
            if chunk:
                connection.execute(insert(table), chunk)
            if connection.dialect.name == "postgresql" and "number" in table.c:
                has_sequence = inspect(connection).get_columns(table.name)
                if any(column["name"] == "number" and column.get("autoincrement") for column in has_sequence):
                    connection.execute(
                        text(
                            f"SELECT setval(pg_get_serial_sequence('{table.name}', 'number'), "
                            f"COALESCE((SELECT MAX(number) FROM {table.name}), 1))"
                        )
                    )
    engine.dispose()
    for path in rows.iterdir():
        path.unlink()
    rows.rmdir()
