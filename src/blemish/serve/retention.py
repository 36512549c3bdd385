"""Which image files stay: OK images go first, NG and reviewed ones last; records stay in any case."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.engine import Engine

from blemish.serve.clock import now_ms
from blemish.serve.data_folder import DataFolder
from blemish.serve.database.tables import inspections, outbox
from blemish.serve.history import reading
from blemish.serve.line import RetentionConfig

__all__ = ["Thinned", "sweep", "thin"]

logger = logging.getLogger(__name__)

DAY_MS = 86_400_000
CHUNK = 500
SENT_DAYS = 7  # how long what was sent stays in the outbox
ORPHAN_S = 3600.0  # a file without a row that is younger may still get one


@dataclass(frozen=True)
class Thinned:
    """What was removed, and whether that was enough."""

    images: int
    bytes_left: int
    is_over_limit: bool  # what is left is NG, or reviewed, and stays


def thin(db: Engine, folder: DataFolder, config: RetentionConfig, *, by_age: bool = True) -> Thinned:
    """Removes files by age, then by size. A row forgets its files before they go, so that none names what is gone.

    Args:
        db: The database.
        folder: The data folder.
        config: What stays.
        by_age: Whether the clock can be trusted with ages.
    """
    c, now, removed = inspections.c, now_ms(), 0
    unreviewed_ok = (c.verdict == "ok", c.review_label.is_(None))
    if by_age and config.ok_days is not None:
        removed += _remove(db, folder, *unreviewed_ok, c.created_ms < now - config.ok_days * DAY_MS)
    if by_age and config.max_days is not None:
        removed += _remove(db, folder, c.state != "waiting", c.created_ms < now - config.max_days * DAY_MS)
    held = _held(db)
    over = False
    if config.max_gb is not None:
        most = config.max_gb * 1e9
        for conditions in (unreviewed_ok, (c.state == "failed",), (c.verdict == "review", c.review_label.is_(None))):
            while held > most and (count := _remove(db, folder, *conditions, most_bytes=held - most)):
                removed += count
                held = _held(db)
        over = held > most
        if over:
            logger.warning(
                "the images take %.1f GB, more than max_gb: what is left is NG or reviewed, and stays", held / 1e9
            )
    with db.begin() as connection:
        connection.execute(outbox.delete().where(outbox.c.sent_ms < now - SENT_DAYS * DAY_MS))
    return Thinned(removed, held, over)


def sweep(db: Engine, folder: DataFolder) -> int:
    """Removes files that no row names, as an interrupted upload leaves them; how many."""
    removed = 0
    for place, _, changed in folder.files():
        if time.time() - changed < ORPHAN_S:
            continue
        with reading(db) as connection:
            image_id = place.rpartition("/")[2].partition(".")[0]
            row: Any = connection.execute(
                select(inspections.c.image, inspections.c.maps).where(inspections.c.id == image_id)
            ).one_or_none()
        if row is None or place not in (row.image, row.maps):
            folder.remove(place)
            removed += 1
    return removed


def _held(db: Engine) -> int:
    with reading(db) as connection:
        found = connection.execute(
            select(func.coalesce(func.sum(inspections.c.bytes), 0)).where(
                or_(inspections.c.image.is_not(None), inspections.c.maps.is_not(None))
            )
        ).scalar_one()
    return int(found)


def _remove(db: Engine, folder: DataFolder, *conditions: Any, most_bytes: float | None = None) -> int:
    """Removes the files of the oldest rows that fit, all of them or up to so many bytes; of how many rows."""
    c, removed = inspections.c, 0
    while True:
        with db.begin() as connection:
            rows = connection.execute(
                select(c.number, c.image, c.maps, c.bytes)
                .where(*conditions, or_(c.image.is_not(None), c.maps.is_not(None)))
                .order_by(c.number)
                .limit(CHUNK)
            ).all()
            if most_bytes is not None:
                rows = _up_to(rows, most_bytes)
            if not rows:
                return removed
            numbers = [row.number for row in rows]
            connection.execute(update(inspections).where(c.number.in_(numbers)).values(image=None, maps=None, bytes=0))
        for row in rows:
            folder.remove(row.image, row.maps)
        removed += len(rows)
        if most_bytes is not None or len(rows) < CHUNK:
            return removed


def _up_to(rows: Any, most_bytes: float) -> list[Any]:
    chosen, held = [], 0
    for row in rows:
        if held >= most_bytes:
            break
        chosen.append(row)
        held += row.bytes
    return chosen
