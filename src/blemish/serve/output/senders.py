"""Sends what the outbox holds until it is acknowledged: over outages and restarts, in order, at least once."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import UsageError
from blemish.io.atomic import reason
from blemish.serve.clock import now_ms
from blemish.serve.database.tables import outbox
from blemish.serve.history import reading
from blemish.serve.line import LineConfig

__all__ = ["OutboxSender", "Senders", "read_secret"]

logger = logging.getLogger(__name__)

AT_ONCE = 50  # messages
POLL_S = 1.0
FIRST_PAUSE_S, MOST_PAUSE_S = 1.0, 300.0


class OutboxSender(ABC):
    """A thread that sends the messages of one target.

    Args:
        db: the database.
        target: of the outbox.
    """

    def __init__(self, db: Engine, target: str) -> None:
        self.target = target
        self._db = db
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"blemish-{target}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Says that there is something to send."""
        self._wake.set()

    def close(self) -> None:
        """Ends; what is not sent is sent after the next start."""
        self._closing.set()
        self._wake.set()
        self._thread.join(30)

    @property
    def may_send(self) -> bool:
        """Whether there is a connection to send by."""
        return True

    @abstractmethod
    def send(self, rows: Sequence[Any]) -> list[int]:
        """Sends messages in their order; the numbers of those that were acknowledged."""

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                sent = self._send_some() if self.may_send else 0
            except SQLAlchemyError as error:
                logger.error("the outbox cannot be read (%s)", type(error).__name__)
                sent = 0
            if sent < AT_ONCE:
                self._wake.wait(POLL_S)
                self._wake.clear()

    def _send_some(self) -> int:
        """Sends what is due; how many messages were acknowledged."""
        now, c = now_ms(), outbox.c
        # no pause is longer: a clock that was set back leaves no message waiting for the old time
        due = or_(c.next_ms <= now, c.next_ms > now + 1000 * MOST_PAUSE_S)
        with reading(self._db) as connection:
            rows = connection.execute(
                select(outbox)
                .where(c.target == self.target, c.sent_ms.is_(None), due)
                .order_by(c.number)
                .limit(AT_ONCE)
            ).all()
        if not rows:
            return 0
        done = self.send(rows)
        failed = [row for row in rows if row.number not in set(done)]
        with self._db.begin() as connection:
            connection.execute(update(outbox).where(outbox.c.number.in_(done)).values(sent_ms=now_ms()))
            for row in failed:
                pause_s = min(FIRST_PAUSE_S * 2 ** min(row.attempts, 16), MOST_PAUSE_S)
                connection.execute(
                    update(outbox)
                    .where(outbox.c.number == row.number)
                    .values(attempts=row.attempts + 1, next_ms=now_ms() + int(1000 * pause_s))
                )
        return len(done)


class Senders:
    """The senders of a service, one for the broker and one for each webhook.

    Args:
        db: the database.
        line: what they are.
        is_ready: what the watchdog says of the service.

    Raises:
        UsageError: A file with a secret cannot be read.
    """

    def __init__(self, db: Engine, line: LineConfig, *, is_ready: Callable[[], bool] = lambda: True) -> None:
        self._db = db
        self.mqtt: Any = None
        self._senders: list[OutboxSender] = []
        if line.mqtt is not None:
            from blemish.serve.output.mqtt import MqttSender

            self.mqtt = MqttSender(db, line.mqtt, is_ready=is_ready)
            self._senders.append(self.mqtt)
        if line.webhooks:
            from blemish.serve.output.webhooks import WebhookSender

            self._senders += [WebhookSender(db, hook) for hook in line.webhooks]

    def start(self, triggers: dict[str, Callable[[], Any]]) -> None:
        """Begins to send. `triggers` are called when a message comes on their topics."""
        if self.mqtt is not None:
            self.mqtt.triggers = triggers
        for sender in self._senders:
            sender.start()

    @property
    def is_connected(self) -> bool:
        """Whether the MQTT broker is connected."""
        return self.mqtt is not None and bool(self.mqtt.may_send)

    def unsent(self) -> float:
        """Messages that are not sent yet; not a number while the database cannot be reached."""
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
        for sender in self._senders:
            sender.close()


def read_secret(path: str, what: str) -> str:
    """The secret in a file; UsageError where there is none."""
    try:
        secret = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{path}: {what} cannot be read ({why})") from error
    if not secret:
        raise UsageError(f"{path}: {what} is empty")
    return secret
