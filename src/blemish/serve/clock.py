"""Times as the service keeps them: milliseconds since 1970, UTC; in JSON as ISO 8601 with a Z."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from blemish.errors import UsageError

__all__ = ["HOUR_MS", "ClockWatch", "day_of", "iso", "milliseconds", "now_ms"]

HOUR_MS = 3_600_000
JUMP_S = 3600.0
DISTRUST_S = 86_400.0
HIGHEST_MS = 253_402_300_799_000  # the end of the year 9999


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def iso(when_ms: int | None) -> str | None:
    """The time as text, to the millisecond.

    Example:
        >>> iso(0)
        '1970-01-01T00:00:00.000Z'
    """
    if when_ms is None:
        return None
    return datetime.fromtimestamp(when_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day_of(when_ms: int) -> str:
    """The day in UTC, as 2026-11-26."""
    return datetime.fromtimestamp(when_ms / 1000, UTC).date().isoformat()


def milliseconds(text: str, *, name: str = "the time") -> int:
    """The time that a text says: ISO 8601, UTC where it names no zone, or milliseconds since 1970.

    Example:
        >>> milliseconds("1970-01-01T01:00:00+01:00"), milliseconds("1500")
        (0, 1500)
    """
    try:
        if text.isdecimal():
            found = int(text)
        else:
            when = datetime.fromisoformat(text)
            found = round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{name} is ISO 8601, as 2026-11-26T06:00:00Z, not {text[:40]!r}") from error
    if not 0 <= found <= HIGHEST_MS:
        raise UsageError(f"{name} lies between the years 1970 and 9999, not at {text[:40]!r}")
    return found


class ClockWatch:
    """Says whether the age of files can be told by the clock: not within a day after it jumped by more than an hour."""

    def __init__(self) -> None:
        self._wall_ms, self._steady_s = now_ms(), time.monotonic()
        self._jumped_s: float | None = None

    def is_steady(self) -> bool:
        """Whether the clock went on evenly, since the last call and for a day before."""
        wall_ms, steady_s = now_ms(), time.monotonic()
        jump_s = (wall_ms - self._wall_ms) / 1000 - (steady_s - self._steady_s)
        self._wall_ms, self._steady_s = wall_ms, steady_s
        if abs(jump_s) > JUMP_S:
            self._jumped_s = steady_s
        return self._jumped_s is None or steady_s - self._jumped_s > DISTRUST_S
