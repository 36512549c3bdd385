"""What every source has: its thread, its state, and the way of an image into the service."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError
from blemish.serve import history
from blemish.serve.clock import iso, now_ms
from blemish.serve.inference.pool import QueueFullError
from blemish.serve.intake import DiskFullError, Intake, Upload, Wanted
from blemish.serve.line import SourceConfig
from blemish.serve.metrics import Metrics

__all__ = ["LineSource"]

logger = logging.getLogger(__name__)

ROOM_S = 0.05  # how often room in the queue is looked for
OUTAGE_S = 1.0  # pause where database or disk fail


class LineSource(ABC):
    """Something that images come from. `start` begins, `close` ends.

    Args:
        config: what it is.
        intake: what takes its images.
        metrics: counts them.
    """

    def __init__(self, config: SourceConfig, intake: Intake, metrics: Metrics) -> None:
        self.config = config
        self.taken = 0  # images that were accepted
        self.skipped = 0  # frames that a newer one replaced
        self.problem: str | None = None  # why nothing comes
        self.last_ms: int | None = None  # when the last image was accepted
        self._intake = intake
        self._metrics = metrics
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins to take images."""
        self._begin(self._work, "work")

    def close(self) -> None:
        """Takes no more."""
        self._closing.set()
        for thread in self._threads:
            thread.join(10)

    def trigger(self) -> str | None:
        """Takes an image now; its id, or None where there is none to take."""
        return None

    def state(self) -> dict[str, Any]:
        """How it is, for the page."""
        return {
            "name": self.config.name,
            "kind": self.config.kind,
            "trigger": self.config.trigger or ("arrival" if self.config.kind == "folder" else "interval"),
            "taken": self.taken,
            "skipped": self.skipped,
            "problem": self.problem,
            "last": iso(self.last_ms),
        }

    @abstractmethod
    def _work(self) -> None:
        """Takes images until `_closing` is set."""

    def _begin(self, work: Any, name: str) -> None:
        thread = threading.Thread(target=self._guarded, args=(work,), name=f"blemish-source-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: Any) -> None:
        """Runs the work again where something failed that nobody thought of: a source never ends by itself."""
        while not self._closing.is_set():
            try:
                work()
                return
            except Exception as error:
                self.problem = f"{type(error).__name__}: {error}"
                logger.exception("the source %r failed; it begins again", self.config.name)
                self._closing.wait(self.config.retry_s)

    def _take(self, upload: Upload, *, wait: bool) -> str | None:
        """The id of the image once it is accepted; None where there is no room and it need not wait, or it was taken before."""
        if upload.request_key is not None and self._was_taken(upload.request_key):
            return None
        wanted = Wanted(source=self.config.name, profile=self.config.profile)
        while not self._closing.is_set():
            pause_s = ROOM_S
            try:
                if hasattr(upload.data, "seek"):
                    upload.data.seek(0)
                pending = self._intake.take([upload], wanted)
            except QueueFullError:
                if not wait:
                    return None
            except (DiskFullError, SQLAlchemyError) as error:
                self.problem = str(error) if isinstance(error, DiskFullError) else "the database cannot be reached"
                if not wait:
                    return None
                pause_s = OUTAGE_S
            except BlemishError as error:  # of the profile
                self.problem = str(error)
                pause_s = OUTAGE_S
            else:
                self.problem = None
                self.taken += 1
                self.last_ms = now_ms()
                self._metrics.accepted.labels(self.config.name).inc()
                return pending[0].id
            self._closing.wait(pause_s)
        return None

    def _was_taken(self, key: str) -> bool:
        while not self._closing.is_set():
            try:
                return bool(history.by_request_key(self._intake.db, [key]))
            except SQLAlchemyError:
                self._closing.wait(OUTAGE_S)
        return True

    def _skip(self) -> None:
        self.skipped += 1
        self._metrics.skipped.labels(self.config.name).inc()
