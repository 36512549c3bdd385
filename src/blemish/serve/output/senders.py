"""Sends what the outbox holds, in order, until it is acknowledged: over outages and restarts, at least once."""

from __future__ import annotations

import logging
import threading
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from blemish.serve.database.tables import outbox
from blemish.serve.history import reading
from blemish.serve.line import LineConfig

__all__ = ["Senders"]

logger = logging.getLogger(__name__)


class Senders:
    """The senders of a service, a thread for each that has something to send to."""

    def __init__(self, db: Engine, line: LineConfig) -> None:
        self._db = db
        self._line = line
        self._closing = threading.Event()
        self._senders: list[Any] = []
        self.mqtt: Any = None

    @property
    def is_connected(self) -> bool:
        """Whether the MQTT broker is connected."""
        return self.mqtt is not None and bool(self.mqtt.is_connected)

    def unsent(self) -> float:
        """Messages that are not sent yet."""
        try:
            with reading(self._db) as connection:
                query = select(func.count()).select_from(outbox).where(outbox.c.sent_ms.is_(None))
                return float(connection.execute(query).scalar_one())
        except SQLAlchemyError:
            return float("nan")

    def wake(self) -> None:
        """Says that there is something to send."""
        for sender in self._senders:
            sender.wake()

    def close(self) -> None:
        self._closing.set()
        for sender in self._senders:
            sender.close()
