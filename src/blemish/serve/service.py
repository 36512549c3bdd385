"""The service: database, data folder, queue, processes, sources and outputs, started and stopped together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError
from blemish.io.processors import free_processors
from blemish.serve.access import Access
from blemish.serve.clock import ClockWatch, now_ms
from blemish.serve.data_folder import DataFolder
from blemish.serve.database.opening import open_database, sqlite_url
from blemish.serve.history import Message
from blemish.serve.inference.pool import InferencePool
from blemish.serve.intake import Intake, Pending
from blemish.serve.jobs import Jobs
from blemish.serve.line import LineConfig
from blemish.serve.metrics import Metrics
from blemish.serve.output.fieldbus import Fieldbus, ModbusRegisters, OpcUaVariables
from blemish.serve.output.messages import messages_of, topic_name
from blemish.serve.output.senders import Senders
from blemish.serve.pictures import Pictures
from blemish.serve.profiles import DEFAULT_PROFILE, Profiles
from blemish.serve.retention import sweep, thin
from blemish.serve.sources.running import Sources

__all__ = ["Service"]

logger = logging.getLogger(__name__)

MOST_WORKERS = 4
RETENTION_S = 60.0  # how often files are thinned out


class Service:
    """Everything but HTTP. It runs from its making until `close`.

    Args:
        line: what it is started with.
        environment: variables of the worker processes.

    Raises:
        UsageError: The database is that of a newer version, or another service has the data folder.
        OutputError: Data folder or database cannot be written.
    """

    def __init__(self, line: LineConfig, *, environment: Mapping[str, str] | None = None) -> None:
        self.line = line
        self.metrics = Metrics()
        self.folder = DataFolder(line.serve.data)
        try:
            self.db = open_database(line.serve.database or sqlite_url(self.folder.path))
        except BaseException:
            self.folder.close()
            raise
        self.access = Access(self.db)
        self.pictures = Pictures(self.folder)
        self.profiles = Profiles(self.db, self.folder)
        for name, config in {DEFAULT_PROFILE: line.inspect, **line.profiles}.items():
            self.profiles.use_configured(name, config)
        self.over_limit = False  # of the retention: what is left stays
        self.fieldbuses: list[Fieldbus] = []
        self._closing = threading.Event()
        self.pool = InferencePool(
            workers=line.serve.workers or min(MOST_WORKERS, free_processors()),
            most_waiting=line.serve.queue,
            batch_size=line.serve.batch_size,
            wait_s=line.serve.wait_ms / 1000,
            image_limit_s=line.serve.image_limit_s,
            warm_up=self._warm_up,
            environment=environment,
        )
        self.intake = Intake(
            self.db,
            self.folder,
            self.pool,
            self.profiles,
            messages=self._messages,
            on_record=self._on_record,
            min_free_bytes=int(line.retention.min_free_mb * 1e6),
        )
        self.senders = Senders(self.db, line, is_ready=lambda: not self.problems())
        self.jobs = Jobs(self.db, self.intake, line.folders)
        self.sources = Sources(line, self.intake, self.metrics)
        self._set_gauges()
        self._retention = threading.Thread(target=self._thin, name="blemish-retention", daemon=True)
        self._retention.start()
        self.senders.start(self._mqtt_triggers())
        try:
            self._start_fieldbuses()
        except BaseException:
            self.close()
            raise

    def _start_fieldbuses(self) -> None:
        line = self.line

        def is_ready() -> bool:
            return not self.problems()

        found: list[Fieldbus] = []
        if line.modbus is not None:
            found.append(
                ModbusRegisters(line.modbus, types=lambda: self.pool.facts.get("types") or (), is_ready=is_ready)
            )
        if line.opcua is not None:
            found.append(OpcUaVariables(line.opcua, is_ready=is_ready))
        for fieldbus in found:
            fieldbus.start()
            self.fieldbuses.append(fieldbus)

    def close(self) -> None:
        """Stops taking images, finishes what runs, writes its records; what waits is inspected after the next start."""
        self._closing.set()
        self.sources.close()
        self.jobs.close()
        self.pool.close()
        self.intake.close()
        self.senders.close()
        for fieldbus in self.fieldbuses:
            fieldbus.close()
        self._retention.join(10)
        self.db.dispose()
        self.folder.close()

    def problems(self) -> list[str]:
        """Why the service is not ready; empty where it is."""
        found = []
        if not self.pool.is_ready:
            found.append(self.pool.facts.get("error") or "the model is not loaded yet")
        with suppress(OSError):
            if self.folder.free_bytes < self.line.retention.min_free_mb * 1e6:
                found.append("the disk is full")
        try:
            with self.db.connect().execution_options(blemish_reads=True) as connection:
                connection.exec_driver_sql("SELECT 1")
        except SQLAlchemyError:
            found.append("the database cannot be reached")
        return found

    def _warm_up(self) -> Mapping[str, Any] | None:
        try:
            return self.profiles.setup(self.profiles.get(DEFAULT_PROFILE))
        except (BlemishError, SQLAlchemyError) as error:
            logger.error("the profile %r cannot be used: %s", DEFAULT_PROFILE, error)
            return None

    def _messages(self, pending: Pending, record: Mapping[str, Any]) -> Sequence[Message]:
        return messages_of(self.line, record, image_id=pending.id, source=pending.source, created_ms=pending.created_ms)

    def _on_record(self, pending: Pending, record: Mapping[str, Any]) -> None:
        self.metrics.latency.observe(max(0.0, (now_ms() - pending.created_ms) / 1000))
        self.metrics.verdicts.labels(pending.source, record["verdict"] or "failed").inc()
        self.senders.wake()
        for fieldbus in self.fieldbuses:
            fieldbus.update(pending.id, pending.source, record)

    def _mqtt_triggers(self) -> dict[str, Callable[[], Any]]:
        """What a message does on the topic of each source that MQTT triggers."""
        mqtt = self.line.mqtt
        return {
            source.topic or f"{mqtt.prefix}/trigger/{topic_name(source.name)}": partial(
                self.sources.trigger, source.name
            )
            for source in self.line.sources
            if source.trigger == "mqtt" and mqtt is not None
        }

    def _set_gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("queue_images", "Images that wait for the model", lambda: self.pool.waiting)
        gauge("queue_limit_images", "Images that may wait", lambda: self.pool.most_waiting)
        gauge("running_images", "Images that a worker has", lambda: self.pool.running)
        gauge("queue_promise_seconds", "How long an image accepted now should take", lambda: self.pool.promise_s)
        gauge("done_images", "Images that workers have done since the start", lambda: self.pool.done)
        gauge("workers", "Worker processes that run", lambda: len(self.pool.process_ids))
        gauge("worker_restarts", "Worker processes that fell since the start", lambda: self.pool.restarts)
        gauge("ready", "1 while images can be inspected", lambda: self.pool.is_ready)
        gauge("disk_free_bytes", "Free bytes on the disk of the data folder", lambda: self.folder.free_bytes)
        gauge("outbox_messages", "Messages that are not sent yet", self.senders.unsent)
        gauge("mqtt_connected", "1 while the broker is connected", lambda: self.senders.is_connected)
        gauge("retention_over_limit", "1 where images that stay take more than max_gb", lambda: self.over_limit)

    def _thin(self) -> None:
        with suppress(SQLAlchemyError, OSError):
            sweep(self.db, self.folder)
        clock, was_steady = ClockWatch(), True
        while not self._closing.wait(RETENTION_S):
            is_steady = clock.is_steady()
            if was_steady and not is_steady:
                logger.warning(
                    "the clock jumped by more than an hour: for a day no image is removed because of its age"
                )
            was_steady = is_steady
            try:
                self.over_limit = thin(self.db, self.folder, self.line.retention, by_age=is_steady).is_over_limit
            except SQLAlchemyError as error:
                logger.error("files cannot be thinned out (%s)", type(error).__name__)
