"""The way of an image through the service: file and row first, then the queue, then its record, then whoever waits for it.

Once `take` has returned, the image has a record some time, whatever falls meanwhile: what is in the database as waiting is
inspected again after a restart.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError, ImageError, OutputError
from blemish.results import ModelInfo, Thresholds
from blemish.runs.records import error_record
from blemish.serve import history
from blemish.serve.clock import now_ms
from blemish.serve.data_folder import DataFolder
from blemish.serve.history import Accepted, Finished, Message
from blemish.serve.inference.pool import InferencePool, InferenceTask, TaskResult
from blemish.serve.profiles import Profiles, StoredProfile

__all__ = ["DiskFullError", "Intake", "Pending", "Upload", "Wanted"]

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 100  # records in one transaction
RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)  # pauses before records are written again
FEED_S = 0.5  # how often accepted images that wait are looked for
NO_MODEL = ModelInfo(backbone="", method="", version="")
NO_THRESHOLDS = Thresholds(image=0.5, pixel=0.5)


class DiskFullError(BlemishError):
    """Nothing can be accepted: the disk of the data folder is full."""


@dataclass(frozen=True)
class Upload:
    """An image as it comes in."""

    name: str  # what it is called
    data: bytes | IO[bytes]
    request_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How images are to be inspected."""

    source: str
    profile: str | None = None  # None: that of the source
    settings: Mapping[str, Any] = field(default_factory=dict)
    job: str | None = None


@dataclass(frozen=True, eq=False)
class Pending:
    """An image that was accepted; `recorded` gets its record with its id."""

    id: str
    source: str
    job: str | None
    image: str  # below the data folder
    maps: str  # likewise
    created_ms: int
    task: InferenceTask
    plain_profile: tuple[str, int] | None  # name and version, where nothing else was asked for
    recorded: Future[dict[str, Any]] = field(default_factory=Future)


class Intake:
    """Takes images in and writes their records.

    Args:
        db: the database.
        folder: the data folder.
        pool: what inspects.
        profiles: the profiles.
        messages: what is to be told of a finished inspection: (id, source, created_ms, record) -> messages.
        on_record: is called after records were written, once for each.
        min_free_bytes: of the disk; below it nothing is accepted.
    """

    def __init__(
        self,
        db: Engine,
        folder: DataFolder,
        pool: InferencePool,
        profiles: Profiles,
        *,
        messages: Callable[[Pending, Mapping[str, Any]], Sequence[Message]] = lambda _pending, _record: (),
        on_record: Callable[[Pending, Mapping[str, Any]], None] = lambda _pending, _record: None,
        min_free_bytes: int = 0,
    ) -> None:
        self.db = db
        self.folder = folder
        self.pool = pool
        self.profiles = profiles
        self._messages = messages
        self._on_record = on_record
        self._min_free_bytes = min_free_bytes
        self._pending: dict[str, Pending] = {}
        self._noted: set[tuple[str, int]] = set()  # profiles whose setup is known
        self._lock = threading.Lock()
        self._finished: queue.SimpleQueue[tuple[Pending, TaskResult] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"blemish-{name}", daemon=True)
            for name, work in (("records", self._write_records), ("feeder", self._feed))
        ]
        for thread in self._threads:
            thread.start()

    def take(self, images: Sequence[Upload], wanted: Wanted) -> list[Pending]:
        """Accepts all of the images or none.

        Raises:
            QueueFullError: They would not fit into the queue.
            DiskFullError: The disk is full.
            UsageError: The profile or a setting is unknown.
            SQLAlchemyError: The database cannot be reached.
        """
        with self.pool.reserved(len(images)):  # first of all: what is refused costs little
            profile, setup = self._setup(wanted)
            pending = self._accept(images, wanted, profile, setup)
            self._submit(pending)
        return pending

    def store(self, images: Sequence[Upload], wanted: Wanted) -> list[str]:
        """Accepts images that are inspected when there is room, however many they are; their ids."""
        profile, setup = self._setup(wanted)
        pending = self._accept(images, wanted, profile, setup, feed=True)
        self._wake.set()
        return [each.id for each in pending]

    def give_up(self, pending: Sequence[Pending]) -> None:
        """Takes images out of the queue that nobody waits for any more; those that a worker has already are finished."""
        gone = [each for each in pending if self.pool.cancel(each.task)]
        if gone:
            history.cancel(self.db, [each.id for each in gone])
            with self._lock:
                for each in gone:
                    self._pending.pop(each.id, None)
            self.folder.remove(*(each.image for each in gone))

    def give_up_job(self, job: str) -> None:
        """As `give_up`, for all images of a job."""
        with self._lock:
            pending = [each for each in self._pending.values() if each.job == job]
        self.give_up(pending)

    def pending(self, image_id: str) -> Pending | None:
        """The image of this id, while it has no record."""
        with self._lock:
            return self._pending.get(image_id)

    def close(self) -> None:
        """Writes the records of what was inspected; call it after the pool has ended."""
        self._closing.set()
        self._wake.set()
        self._finished.put(None)
        for thread in self._threads:
            thread.join(30)

    def _setup(self, wanted: Wanted) -> tuple[StoredProfile, dict[str, Any]]:
        profile = self.profiles.get(wanted.profile or self.profiles.of_source(wanted.source))
        return profile, self.profiles.setup(profile, wanted.settings)

    def _accept(
        self,
        images: Sequence[Upload],
        wanted: Wanted,
        profile: StoredProfile,
        setup: Mapping[str, Any],
        *,
        feed: bool = False,
    ) -> list[Pending]:
        self._check_disk()
        now = now_ms()
        pending: list[Pending] = []
        rows: list[Accepted] = []
        try:
            for image in images:
                image_id = history.new_id()
                place = self.folder.new_image(image_id, image.name, created_ms=now)
                made = self._made(
                    image_id,
                    image.name,
                    source=wanted.source,
                    job=wanted.job,
                    place=place,
                    created_ms=now,
                    setup=setup,
                    plain_profile=None if wanted.settings else (profile.name, profile.version),
                )
                pending.append(made)
                size = self.folder.write(place, image.data)
                rows.append(
                    Accepted(
                        id=image_id,
                        name=image.name,
                        source=wanted.source,
                        image=place,
                        image_bytes=size,
                        created_ms=now,
                        settings=wanted.settings,
                        profile=profile.name,
                        profile_version=profile.version,
                        job=wanted.job,
                        request_key=image.request_key,
                    )
                )
            with self._lock:  # before the feeder can see the rows, unless they are left to it
                self._pending |= {} if feed else {each.id: each for each in pending}
            history.accept(self.db, rows)
        except BaseException as error:
            with self._lock:
                for each in pending:
                    self._pending.pop(each.id, None)
            self.folder.remove(*(each.image for each in pending))
            if isinstance(error, OutputError):
                raise DiskFullError(f"the image cannot be kept: {error}") from error
            raise
        return pending

    def _made(
        self,
        image_id: str,
        name: str,
        *,
        source: str,
        job: str | None,
        place: str,
        created_ms: int,
        setup: Mapping[str, Any],
        plain_profile: tuple[str, int] | None = None,
    ) -> Pending:
        maps = self.folder.maps_of(image_id, created_ms=created_ms)
        task = InferenceTask(
            id=image_id,
            path=str(self.folder.path_of(place)),
            name=name,
            maps=str(self.folder.path_of(maps)),
            setup=setup,
        )
        return Pending(image_id, source, job, place, maps, created_ms, task, plain_profile)

    def _check_disk(self) -> None:
        if self._min_free_bytes:
            free = self.folder.free_bytes
            if free < self._min_free_bytes:
                raise DiskFullError(f"the disk of the data folder is full: {free / 1e6:.0f} MB are free")

    def _submit(self, pending: Sequence[Pending]) -> None:
        for each in pending:
            each.task.future.add_done_callback(lambda future, each=each: self._inspected(each, future))  # type: ignore[misc]
        self.pool.submit(*(each.task for each in pending))

    def _inspected(self, pending: Pending, future: Future[TaskResult]) -> None:
        if not future.cancelled():
            self._finished.put((pending, future.result()))

    def _write_records(self) -> None:
        while True:
            first = self._finished.get()
            batch = [first] if first is not None else []
            with suppress(queue.Empty):
                while len(batch) < MOST_AT_ONCE:
                    item = self._finished.get_nowait()
                    if item is not None:
                        batch.append(item)
            if batch:
                self._write(batch)
            elif self._closing.is_set():
                return

    def _write(self, batch: Sequence[tuple[Pending, TaskResult]]) -> None:
        records = [(pending, self._record(pending, result), result) for pending, result in batch]
        finished = [
            Finished(
                id=pending.id,
                record=record,
                maps=pending.maps if result.maps_bytes is not None else None,
                maps_bytes=result.maps_bytes or 0,
                attempts=pending.task.attempts,
                messages=self._messages(pending, record),
            )
            for pending, record, result in records
        ]
        attempt = 0
        while True:
            try:
                new = set(history.finish(self.db, finished))
                break
            except SQLAlchemyError as error:  # an outage, or a full disk: the records wait here, and in the database
                pause = RETRY_S[min(attempt, len(RETRY_S) - 1)]
                attempt += 1
                logger.error("records cannot be written (%s); again in %.1f s", type(error).__name__, pause)
                if self._closing.wait(pause) and attempt > len(RETRY_S):
                    return
        self._note_setups(records)
        for pending, record, result in records:
            with self._lock:
                self._pending.pop(pending.id, None)
            if pending.id in new:
                self._on_record(pending, record)
            with suppress(Exception):  # nobody may wait any more
                pending.recorded.set_result({**record, "id": pending.id, "error_kind": result.error_kind})

    def _note_setups(self, records: Sequence[tuple[Pending, Any, TaskResult]]) -> None:
        """Remembers what decides the scores of each profile, once."""
        for pending, _, result in records:
            profile = pending.plain_profile
            if profile is not None and result.setup is not None and profile not in self._noted:
                with suppress(SQLAlchemyError):
                    self.profiles.note_setup(*profile, result.setup)
                    self._noted.add(profile)

    def _record(self, pending: Pending, result: TaskResult) -> dict[str, Any]:
        if result.record is not None:
            return dict(result.record)
        failed = ImageError(pending.task.name, result.error or "it could not be inspected")
        return error_record(failed, thresholds=NO_THRESHOLDS, model=NO_MODEL)

    def _feed(self) -> None:
        """Submits images that were accepted and wait in the database alone: those of jobs, and of before a restart."""
        while not self._closing.is_set():
            room = self.pool.most_waiting // 2 - self.pool.waiting
            if room > 0:
                with self._lock:
                    known = len(self._pending)
                try:
                    rows = history.waiting(self.db, limit=room + known)
                except SQLAlchemyError as error:
                    logger.error("the database cannot be read (%s)", type(error).__name__)
                    rows = []
                submitted = [row for row in rows if self._resume(row)]
                if len(submitted) >= room:
                    self._closing.wait(0.01)
                    continue
            self._wake.wait(FEED_S)
            self._wake.clear()

    def _resume(self, row: Any) -> bool:
        """Whether the image of a row was not on its way yet, and now is."""
        if self.pending(row.id) is not None:
            return False
        setup: dict[str, Any] = {}
        failure = None
        if not self.folder.path_of(row.image).is_file():
            failure = TaskResult(None, error="its file is gone", error_kind="image")
        else:
            try:
                profile = self.profiles.get(row.profile, row.profile_version)
                setup = self.profiles.setup(profile, json.loads(row.settings))
            except BlemishError as error:
                failure = TaskResult(None, error=str(error), error_kind="setup")
        pending = self._made(
            row.id,
            row.name,
            source=row.source,
            job=row.job,
            place=row.image,
            created_ms=row.created_ms,
            setup=setup,
        )
        with self._lock:
            if row.id in self._pending:
                return False
            self._pending[row.id] = pending
        if failure is not None:
            self._finished.put((pending, failure))
        else:
            self._submit([pending])
        return True
