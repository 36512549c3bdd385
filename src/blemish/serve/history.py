"""Inspections in the database: accepted before they are inspected, finished with their record, found again by filters."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Select, and_, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine, Row

from blemish.serve.clock import HOUR_MS, now_ms
from blemish.serve.database.tables import inspections, outbox, regions, sources, statistics

__all__ = [
    "Accepted",
    "Filters",
    "Finished",
    "Message",
    "accept",
    "by_request_key",
    "cancel",
    "count",
    "find_inspections",
    "finish",
    "get",
    "new_id",
    "reading",
    "waiting",
]

BINS = 100  # of the image score in the statistics
MOST_SCANNED = 10_000
MOST_NUMBER = 2**62
CLOCK_ROOM = 10_000  # images whose numbers and times may be in another order


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """An image that will have a record: its file is there."""

    id: str
    name: str
    source: str
    image: str  # below the data folder
    image_bytes: int
    created_ms: int
    settings: Mapping[str, Any] = field(default_factory=dict)  # what was asked for besides the profile
    profile: str | None = None
    profile_version: int | None = None
    job: str | None = None
    request_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Message:
    """Something to tell others of an inspection, at least once."""

    target: str  # mqtt, or webhook:NAME
    topic: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What became of an inspection."""

    id: str
    record: Mapping[str, Any]  # with `error` where it could not be inspected
    maps: str | None = None  # below the data folder
    maps_bytes: int = 0
    attempts: int = 0
    messages: Sequence[Message] = ()


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which inspections; None does not matter."""

    verdicts: tuple[str, ...] = ()  # ok, review, ng
    states: tuple[str, ...] = ()  # waiting, done, failed, cancelled
    top_type: str | None = None
    source: str | None = None
    job: str | None = None
    profile: str | None = None
    name: str | None = None  # part of the file's name
    review: str | None = None  # a label, or "none" for what nobody has reviewed
    from_ms: int | None = None
    to_ms: int | None = None  # exclusive
    lowest_score: float | None = None
    highest_score: float | None = None


def new_id() -> str:
    return uuid4().hex


@contextmanager
def reading(db: Engine) -> Iterator[Connection]:
    """A connection for reads alone, which wait for no writer."""
    with db.connect().execution_options(blemish_reads=True) as connection:
        yield connection


def accept(db: Engine, images: Sequence[Accepted]) -> None:
    """Promises a record for each of the images."""
    rows = [
        {
            "id": image.id,
            "state": "waiting",
            "created_ms": image.created_ms,
            "source": image.source,
            "name": image.name,
            "job": image.job,
            "request_key": image.request_key,
            "profile": image.profile,
            "profile_version": image.profile_version,
            "settings": json.dumps(image.settings),
            "image": image.image,
            "bytes": image.image_bytes,
        }
        for image in images
    ]
    with db.begin() as connection:
        connection.execute(insert(inspections), rows)
        for name in {image.source for image in images}:
            _insert_or_leave(connection, name, images[0].created_ms)


def finish(db: Engine, finished: Sequence[Finished]) -> list[str]:
    """Writes the records, with what is to be told of them; the ids of those that had none yet."""
    now, new = now_ms(), []
    with db.begin() as connection:
        for each in finished:
            record = each.record
            failed = record["verdict"] is None
            changed = connection.execute(
                update(inspections)
                .where(inspections.c.id == each.id, inspections.c.state == "waiting")
                .values(
                    state="failed" if failed else "done",
                    finished_ms=now,
                    maps=each.maps,
                    bytes=inspections.c.bytes + each.maps_bytes,
                    attempts=each.attempts,
                    verdict=record["verdict"],
                    image_score=record["image_score"],
                    map_peak=record["map_peak"],
                    top_type=None if failed else record["top_type"],
                    region_count=len(record["regions"]),
                    record=json.dumps(record),
                    error=record["error"],
                )
            )
            if not changed.rowcount:  # it was done before, or cancelled
                continue
            new.append(each.id)
            row = connection.execute(
                select(inspections.c.number, inspections.c.source, inspections.c.created_ms).where(
                    inspections.c.id == each.id
                )
            ).one()
            if record["regions"]:
                connection.execute(insert(regions), list(_region_rows(row.number, record["regions"])))
            if not failed:
                _count(connection, row, record)
            if each.messages:
                rows = [
                    {"target": m.target, "topic": m.topic, "payload": json.dumps(m.payload), "created_ms": now}
                    for m in each.messages
                ]
                connection.execute(insert(outbox), rows)
    return new


def cancel(db: Engine, ids: Iterable[str]) -> None:
    """Says that these images are not inspected after all: whoever asked for them has left."""
    with db.begin() as connection:
        connection.execute(
            update(inspections)
            .where(inspections.c.id.in_(list(ids)), inspections.c.state == "waiting")
            .values(
                state="cancelled",
                finished_ms=now_ms(),
                request_key=None,  # the same request may come again
                image=None,
                error="cancelled: the request ended before its turn came",
            )
        )


def get(db: Engine, image_id: str) -> Row[Any] | None:
    """The row of an inspection."""
    with reading(db) as connection:
        return connection.execute(select(inspections).where(inspections.c.id == image_id)).one_or_none()


def by_request_key(db: Engine, keys: Sequence[str]) -> dict[str, Row[Any]]:
    """The rows that a request with these keys made before."""
    with reading(db) as connection:
        found = connection.execute(select(inspections).where(inspections.c.request_key.in_(keys)))
        return {row.request_key: row for row in found}


def waiting(db: Engine, *, after: int = 0, limit: int = 100, job: str | None = None) -> list[Row[Any]]:
    """Inspections that were accepted and have no record yet, the oldest first."""
    query = select(inspections).where(inspections.c.state == "waiting", inspections.c.number > after)
    if job is not None:
        query = query.where(inspections.c.job == job)
    with reading(db) as connection:
        return list(connection.execute(query.order_by(inspections.c.number).limit(limit)))


def find_inspections(
    db: Engine, filters: Filters, *, before: int | None = None, after: int | None = None, limit: int = 50
) -> list[Row[Any]]:
    """Inspections, the newest first.

    Args:
        db: The database.
        filters: Which ones.
        before: Only those with a lower number: where the page before ended.
        after: Only those with a higher number: what is new.
        limit: How many at most.
    """
    column = inspections.c.number
    base = _selected(select(inspections), filters).order_by(column.desc()).limit(limit)
    if before is not None:
        base = base.where(column < before)
    if after is not None:
        base = base.where(column > after)
    # one query for each verdict and state: each then runs down one index, and the newest of all are merged
    states: list[tuple[ColumnElement[bool], ...]] = [(inspections.c.state == each,) for each in filters.states]
    queries = [base.where(*verdict, *state) for verdict in _verdicts(filters) for state in states or [()]]
    with reading(db) as connection:
        within = _numbers_of(connection, filters)
        found = [connection.execute(query.where(*within)).all() for query in queries]
    return list(islice(heapq.merge(*found, key=lambda row: -row.number), limit))


def count(db: Engine, filters: Filters) -> tuple[int, bool]:
    """How many there are, up to 10,000, and whether there are more."""
    with reading(db) as connection:
        query = _selected(select(inspections.c.number), filters)
        if filters.verdicts:
            query = query.where(inspections.c.verdict.in_(filters.verdicts))
        if filters.states:
            query = query.where(inspections.c.state.in_(filters.states))
        limited = query.limit(MOST_SCANNED + 1).subquery()
        found = connection.execute(select(func.count()).select_from(limited)).scalar_one()
    return min(found, MOST_SCANNED), found > MOST_SCANNED


def _numbers_of(connection: Connection, filters: Filters) -> list[Any]:
    """Conditions on numbers that hold for a time, with room for clocks that jumped: the index on numbers leads there at once."""
    c = inspections.c
    conditions: list[Any] = []
    if filters.from_ms is not None:
        first = select(c.number).where(c.created_ms >= filters.from_ms).order_by(c.created_ms, c.number).limit(1)
        number = connection.execute(first).scalar()
        conditions.append(c.number >= (number - CLOCK_ROOM if number is not None else MOST_NUMBER))
    if filters.to_ms is not None:
        last = (
            select(c.number).where(c.created_ms < filters.to_ms).order_by(c.created_ms.desc(), c.number.desc()).limit(1)
        )
        conditions.append(c.number <= (connection.execute(last).scalar() or 0) + CLOCK_ROOM)
    return conditions


def _verdicts(filters: Filters) -> list[tuple[Any, ...]]:
    """The conditions of each verdict that is asked for; of every one, where an index lies in the order of verdicts."""
    column = inspections.c.verdict
    if filters.verdicts:
        return [(column == verdict,) for verdict in filters.verdicts]
    if filters.top_type is None and filters.source is None and filters.review in (None, "none"):
        return [()]
    return [*((column == verdict,) for verdict in ("ok", "review", "ng")), (column.is_(None),)]


def _selected(query: Select[Any], filters: Filters) -> Select[Any]:
    c = inspections.c
    conditions: list[Any] = []
    for column, value in ((c.top_type, filters.top_type), (c.source, filters.source), (c.job, filters.job)):
        if value is not None:
            conditions.append(column == value)
    if filters.profile is not None:
        conditions.append(c.profile == filters.profile)
    if filters.name:
        conditions.append(c.name.icontains(filters.name, autoescape=True))
    if filters.review == "none":
        conditions.append(c.review_label.is_(None))
    elif filters.review is not None:
        conditions.append(c.review_label == filters.review)
    for low in (filters.from_ms,):
        if low is not None:
            conditions.append(c.created_ms >= low)
    if filters.to_ms is not None:
        conditions.append(c.created_ms < filters.to_ms)
    if filters.lowest_score is not None:
        conditions.append(c.image_score >= filters.lowest_score)
    if filters.highest_score is not None:
        conditions.append(c.image_score <= filters.highest_score)
    return query.where(and_(True, *conditions)) if conditions else query


def _region_rows(number: int, found: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for position, region in enumerate(found):
        x0, y0, x1, y1 = region["box_px"]
        yield {
            "inspection": number,
            "position": position,
            "type": region["type"],
            "peak_score": region["peak_score"],
            "mean_score": region["mean_score"],
            "area_px": region["area_px"],
            "x0": x0,
            "y0": y0,
            "x1": x1,
            "y1": y1,
        }


def _count(connection: Connection, row: Any, record: Mapping[str, Any]) -> None:
    """Counts the inspection on in the statistics of its hour."""
    key = {
        "hour": row.created_ms // HOUR_MS,
        "source": row.source,
        "verdict": record["verdict"],
        "top_type": record["top_type"] or "",
        "score_bin": min(BINS - 1, int(record["image_score"] * BINS)),
    }
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(
        dialect.insert(statistics)
        .values(**key, images=1)
        .on_conflict_do_update(index_elements=list(key), set_={"images": statistics.c.images + 1})
    )


def _insert_or_leave(connection: Connection, name: str, when_ms: int) -> None:
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(
        dialect.insert(sources).values(name=name, first_seen_ms=when_ms).on_conflict_do_nothing(index_elements=["name"])
    )
