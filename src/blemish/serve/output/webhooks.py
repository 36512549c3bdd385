"""Results by HTTP: signed, and sent again until the receiver says that it has them."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Sequence
from typing import Any

import httpx
from sqlalchemy.engine import Engine

from blemish.serve.line import WebhookConfig
from blemish.serve.output.senders import OutboxSender, read_secret

__all__ = ["SIGNATURE", "TIMESTAMP", "WebhookSender", "signature_of"]

logger = logging.getLogger(__name__)

SIGNATURE, TIMESTAMP = "X-Blemish-Signature", "X-Blemish-Timestamp"


def signature_of(secret: str, timestamp: str, body: bytes) -> str:
    """What the header says: HMAC-SHA256 of timestamp, a full stop and body, in hexadecimal digits.

    Example:
        >>> signature_of("key", "1700000000", b"{}")[:14]
        'sha256=9d713ed'
    """
    made = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={made.hexdigest()}"


class WebhookSender(OutboxSender):
    """Posts messages to one address. Any answer of 200 to 299 means that one arrived."""

    def __init__(self, db: Engine, config: WebhookConfig) -> None:
        super().__init__(db, f"webhook:{config.name}")
        self._secret = read_secret(config.secret_file, f"the key of the webhook {config.name!r}")
        self._http = httpx.Client(timeout=config.timeout_s, follow_redirects=False)

    def close(self) -> None:
        super().close()
        self._http.close()

    def send(self, rows: Sequence[Any]) -> list[int]:
        done = []
        for row in rows:
            if self._closing.is_set():
                break
            body, timestamp = row.payload.encode(), str(int(time.time()))
            headers = {
                "Content-Type": "application/json",
                TIMESTAMP: timestamp,
                SIGNATURE: signature_of(self._secret, timestamp, body),
            }
            try:
                answer = self._http.post(row.topic, content=body, headers=headers)
            except httpx.HTTPError as error:
                logger.warning("the webhook %s: %s", self.target, type(error).__name__)
                continue
            if answer.is_success:
                done.append(row.number)
            else:
                logger.warning("the webhook %s answered %d", self.target, answer.status_code)
        return done
