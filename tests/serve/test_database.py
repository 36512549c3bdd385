"""The database: made and migrated, on SQLite and, where the Debian package is installed, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, insert, select, text

from blemish.errors import OutputError, UsageError
from blemish.serve import history
from blemish.serve.database.opening import migrate, open_database, sqlite_url
from blemish.serve.database.tables import inspections, tables
from blemish.serve.history import Accepted, Filters, Finished
from serve.servers import Postgres

VERSIONS = ("0001",)  # every one that was ever released, the newest last


def record(*, verdict: str | None = "ng", score: float = 0.9) -> dict[str, Any]:
    region = {"type": "scratch", "peak_score": 0.9, "mean_score": 0.8, "area_px": 9, "box_px": [1, 2, 3, 4]}
    return {
        "source": "a.png",
        "verdict": verdict,
        "image_score": score,
        "map_peak": score,
        "top_type": "scratch",
        "regions": [region] if verdict == "ng" else [],
        "error": None if verdict else "unreadable",
    }


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty PostgreSQL, started for the tests."""
    server = Postgres()
    server.start()
    yield server.url
    server.remove()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path)
        return
    address = request.getfixturevalue("postgres")
    yield address
    engine = create_engine(address.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    engine.dispose()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_database_of_every_version_is_brought_to_this_one(url: str, version: str) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        migrate(connection, revision=version)
        row = {"id": "a", "state": "waiting", "created_ms": 1, "source": "s", "name": "n", "settings": "{}"}
        connection.execute(insert(inspections), {**row, "bytes": 0, "attempts": 0})
    engine.dispose()
    engine = open_database(url)
    with engine.connect() as connection:
        assert connection.execute(select(inspections.c.id)).scalars().all() == ["a"]
        assert compare_metadata(MigrationContext.configure(connection), tables) == []
    engine.dispose()


def test_what_is_accepted_is_finished_once(url: str) -> None:
    db = open_database(url)
    for number in range(3):
        history.accept(
            db,
            [
                Accepted(
                    id=f"{number}",
                    name=f"{number}.png",
                    source="s",
                    image=f"{number}",
                    image_bytes=5,
                    created_ms=number,
                )
            ],
        )
    assert [row.id for row in history.waiting(db)] == ["0", "1", "2"]
    done = [Finished(id="0", record=record()), Finished(id="1", record=record(verdict="ok", score=0.1))]
    assert history.finish(db, done) == ["0", "1"]
    assert history.finish(db, done) == []
    history.finish(db, [Finished(id="2", record=record(verdict=None))])
    assert history.waiting(db) == []
    assert [row.id for row in history.find_inspections(db, Filters(verdicts=("ok", "ng")))] == ["1", "0"]
    assert [row.id for row in history.find_inspections(db, Filters(states=("failed",)))] == ["2"]
    assert [row.id for row in history.find_inspections(db, Filters(name="2.P"))] == ["2"]
    assert [row.id for row in history.find_inspections(db, Filters(from_ms=1, to_ms=2))] == ["1"]
    assert history.count(db, Filters(source="s")) == (3, False)
    db.dispose()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    db = open_database(sqlite_url(tmp_path))
    with db.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    db.dispose()
    with pytest.raises(UsageError, match="newer version of Blemish"):
        open_database(sqlite_url(tmp_path))


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("nonsense", UsageError, "is no URL of a database"),
        (
            "postgresql://me:secret@localhost:1/x",
            OutputError,
            r"me:\*\*\*@localhost:1/x: the database cannot be opened",
        ),
        ("sqlite:////nowhere/x", OutputError, "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_one_line_without_the_password(url: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "blemish.sqlite3").write_text("text, and no database at all" * 50)
    with pytest.raises(OutputError, match=r"is not a database|cannot be opened"):
        open_database(sqlite_url(tmp_path))
