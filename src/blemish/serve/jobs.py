"""Jobs: many images in the background. A job is taken under a lease, so that one that lost its service is taken again.

A folder's images are accepted one by one, as the queue has room; each has a key of its own, so that none is accepted twice.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.engine import Engine, Row
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError, UnknownNameError, UsageError
from blemish.images import find_images
from blemish.serve import history
from blemish.serve.clock import iso, now_ms
from blemish.serve.database.tables import inspections, jobs
from blemish.serve.inference.pool import QueueFullError
from blemish.serve.intake import DiskFullError, Intake, Upload, Wanted
from blemish.serve.line import RootConfig

__all__ = ["Jobs"]

logger = logging.getLogger(__name__)

POLL_S = 0.5
LEASE_MS = 60_000
ROOM_S = 0.05  # how often a job looks for room in the queue
CHUNK = 8  # images accepted at once


class Jobs:
    """The jobs of a service, worked on by one thread.

    Args:
        db: the database.
        intake: what takes their images.
        folders: those whose images a job may name.
    """

    def __init__(self, db: Engine, intake: Intake, folders: Sequence[RootConfig]) -> None:
        self._db = db
        self._intake = intake
        self._folders = {folder.name: Path(folder.path) for folder in folders}
        self._owner = f"{os.getpid()}-{uuid4().hex[:8]}"
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="blemish-jobs", daemon=True)
        self._thread.start()

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of the folders that jobs may name."""
        return tuple(self._folders)

    def add_folder(self, folder: str, names: Sequence[str] | None, wanted: Mapping[str, Any]) -> str:
        """A job for a folder's images, or for those named below it; its id.

        Raises:
            UnknownNameError: The folder is none of the configured ones.
            UsageError: A name lies outside the folder.
        """
        if folder not in self._folders:
            raise UnknownNameError("folder", folder[:120], self._folders)
        for name in names or ():
            self._path_of(folder, name)
        return self._add({"kind": "folder", "folder": folder, "names": names, **wanted}, state="waiting")

    def add_uploaded(self, images: Sequence[Upload], wanted: Wanted) -> str:
        """A job for images that come with it; its id."""
        job = uuid4().hex
        asked = {
            "kind": "upload",
            "source": wanted.source,
            "profile": wanted.profile,
            "settings": dict(wanted.settings),
        }
        # its images first: a job whose images all have records has ended
        self._intake.store(images, replace(wanted, job=job))
        self._add(asked, state="running", job=job, total=len(images))
        return job

    def get(self, job: str) -> dict[str, Any] | None:
        """What became of a job so far."""
        with history.reading(self._db) as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job)).one_or_none()
            if row is None:
                return None
            counts = connection.execute(
                select(inspections.c.state, inspections.c.verdict, func.count())
                .where(inspections.c.job == job)
                .group_by(inspections.c.state, inspections.c.verdict)
            ).all()
        return _shown(row, counts)

    def listed(self, *, limit: int = 50) -> list[dict[str, Any]]:
        """The newest jobs."""
        with history.reading(self._db) as connection:
            rows = connection.execute(select(jobs).order_by(jobs.c.created_ms.desc()).limit(limit)).all()
        return [_shown(row, ()) for row in rows]

    def cancel(self, job: str) -> bool:
        """Ends a job: images that wait are not inspected; whether it had not ended before."""
        if not self._end(job, "cancelled", None):
            return False
        self._intake.give_up_job(job)
        with history.reading(self._db) as connection:
            left = connection.execute(
                select(inspections.c.id).where(inspections.c.job == job, inspections.c.state == "waiting")
            )
            ids = [image_id for image_id in left.scalars() if self._intake.pending(image_id) is None]
        history.cancel(self._db, ids)
        return True

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        self._thread.join(30)

    def _add(self, asked: Mapping[str, Any], *, state: str, job: str | None = None, total: int | None = None) -> str:
        job = job or uuid4().hex
        with self._db.begin() as connection:
            connection.execute(
                insert(jobs).values(id=job, state=state, created_ms=now_ms(), asked=json.dumps(asked), total=total)
            )
        self._wake.set()
        return job

    def _end(self, job: str, state: str, error: str | None) -> bool:
        with self._db.begin() as connection:
            changed = connection.execute(
                update(jobs)
                .where(jobs.c.id == job, jobs.c.state.in_(("waiting", "running")))
                .values(state=state, error=error, finished_ms=now_ms(), lease_owner=None, lease_until_ms=None)
            )
        return bool(changed.rowcount)

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                row = self._lease()
                if row is not None:
                    self._run(row)
                self._end_finished()
            except SQLAlchemyError as error:
                logger.error("jobs cannot be read (%s)", type(error).__name__)
            self._wake.wait(POLL_S)
            self._wake.clear()

    def _lease(self) -> Row[Any] | None:
        """The oldest job that nobody works on, now leased to this service."""
        now = now_ms()
        until = jobs.c.lease_until_ms  # none is longer than LEASE_MS, unless the clock was set back
        free = or_(until.is_(None), until < now, until > now + LEASE_MS)
        with self._db.begin() as connection:
            row = connection.execute(
                select(jobs)
                .where(jobs.c.state.in_(("waiting", "running")), jobs.c.total.is_(None), free)
                .order_by(jobs.c.created_ms)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).one_or_none()
            if row is not None:
                connection.execute(
                    update(jobs)
                    .where(jobs.c.id == row.id)
                    .values(
                        state="running",
                        started_ms=row.started_ms or now,
                        lease_owner=self._owner,
                        lease_until_ms=now + LEASE_MS,
                    )
                )
        return row

    def _run(self, row: Row[Any]) -> None:
        """Accepts the images of a folder's job; then its total is known."""
        asked = json.loads(row.asked)
        try:
            paths = self._paths(asked)
            wanted = Wanted(
                source=asked["source"], profile=asked.get("profile"), settings=asked.get("settings") or {}, job=row.id
            )
            accepted = 0
            for path in paths:
                if not self._take(row.id, path, asked["folder"], wanted):
                    return
                accepted += 1
        except BlemishError as error:
            self._end(row.id, "failed", str(error))
            return
        with self._db.begin() as connection:
            connection.execute(
                update(jobs).where(jobs.c.id == row.id).values(total=accepted, lease_owner=None, lease_until_ms=None)
            )

    def _take(self, job: str, path: Path, folder: str, wanted: Wanted) -> bool:
        """Whether an image is accepted, once there is room; False where job or service end meanwhile."""
        name = path.relative_to(self._folders[folder]).as_posix()
        key = f"{job}:{name}"[-120:]
        if history.by_request_key(self._db, [key]):
            return True
        renewed = time.monotonic()
        while not self._closing.is_set():
            try:
                with path.open("rb") as stream:
                    self._intake.take([Upload(name, stream, key)], wanted)
                return self._renew(job)
            except OSError as error:
                logger.warning("%s cannot be read and is left out of its job (%s)", path, error)
                return True
            except (QueueFullError, DiskFullError):
                if time.monotonic() - renewed > LEASE_MS / 3000:
                    renewed = time.monotonic()
                    if not self._renew(job):
                        return False
                self._closing.wait(ROOM_S)
        return False

    def _renew(self, job: str) -> bool:
        with self._db.begin() as connection:
            changed = connection.execute(
                update(jobs)
                .where(jobs.c.id == job, jobs.c.lease_owner == self._owner, jobs.c.state == "running")
                .values(lease_until_ms=now_ms() + LEASE_MS)
            )
        return bool(changed.rowcount)

    def _end_finished(self) -> None:
        with history.reading(self._db) as connection:
            running = connection.execute(
                select(jobs.c.id).where(jobs.c.state == "running", jobs.c.total.is_not(None))
            ).scalars()
            done = [job for job in running if not history.waiting(self._db, job=job, limit=1)]
        for job in done:
            self._end(job, "done", None)

    def _paths(self, asked: Mapping[str, Any]) -> list[Path]:
        root = self._folders.get(asked["folder"])
        if root is None:
            raise UnknownNameError("folder", asked["folder"], self._folders)
        if asked.get("names"):
            return [self._path_of(asked["folder"], name) for name in asked["names"]]
        return [image.path for image in find_images(root)]

    def _path_of(self, folder: str, name: str) -> Path:
        root = self._folders[folder].resolve()
        path = (root / name).resolve()
        if "\0" in name or not path.is_relative_to(root) or path == root:
            raise UsageError(f"{name[:120]!r} lies outside the folder {folder!r}")
        return self._folders[folder] / path.relative_to(root)


def _shown(row: Row[Any], counts: Sequence[Any]) -> dict[str, Any]:
    verdicts = dict.fromkeys(("ok", "review", "ng"), 0)
    states = dict.fromkeys(("waiting", "done", "failed", "cancelled"), 0)
    for state, verdict, images in counts:
        states[state] += images
        if verdict in verdicts:
            verdicts[verdict] += images
    return {
        "id": row.id,
        "state": row.state,
        "created": iso(row.created_ms),
        "started": iso(row.started_ms),
        "finished": iso(row.finished_ms),
        "asked": json.loads(row.asked),
        "total": row.total,
        "images": states,
        "verdicts": verdicts,
        "error": row.error,
    }
