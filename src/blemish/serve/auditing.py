"""The audit log: who changed what, and when. It holds no secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Engine

from blemish.serve.clock import iso, now_ms
from blemish.serve.database.tables import audit
from blemish.serve.history import reading

__all__ = ["note", "notes"]


def note(db: Engine, who: str, action: str, subject: str, details: Mapping[str, Any] | None = None) -> None:
    """Writes down that somebody did something to something."""
    with db.begin() as connection:
        connection.execute(
            insert(audit).values(
                created_ms=now_ms(), who=who, action=action, subject=subject, details=json.dumps(details or {})
            )
        )


def notes(db: Engine, *, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """What was written down, the newest first."""
    query = select(audit).order_by(audit.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.number < before)
    with reading(db) as connection:
        return [
            {
                "number": row.number,
                "when": iso(row.created_ms),
                "who": row.who,
                "action": row.action,
                "subject": row.subject,
                "details": json.loads(row.details),
            }
            for row in connection.execute(query)
        ]
