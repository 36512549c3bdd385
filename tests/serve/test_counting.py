"""Statistics by shift, day, source and type, and the drift of scores, counted from inspections at known times."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from blemish.serve import counting, history
from blemish.serve.clock import milliseconds
from blemish.serve.database.opening import open_database, sqlite_url
from blemish.serve.history import Accepted, Finished, new_id

SHIFTS = ("14:00", "06:00", "22:00")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(sqlite_url(tmp_path))
    yield opened
    opened.dispose()


def inspected(
    db: Engine, when: str, *scores: float, source: str = "line 1", verdict: str = "ok", top_type: str | None = None
) -> None:
    """Inspections that were accepted at a time (ISO 8601), one for each score."""
    created_ms = milliseconds(when)
    ids = [new_id() for _ in scores]
    facts: dict[str, Any] = {"source": source, "image": "x", "image_bytes": 1, "created_ms": created_ms}
    history.accept(db, [Accepted(id=each, name="a.png", **facts) for each in ids])
    record = {"source": "a.png", "verdict": verdict, "top_type": top_type, "regions": [], "error": None}
    history.finish(
        db,
        [
            Finished(id=each, record={**record, "image_score": score, "map_peak": score})
            for each, score in zip(ids, scores, strict=True)
        ],
    )


def summary(db: Engine, first: str, last: str, *, time_zone: str = "UTC", source: str | None = None) -> dict[str, Any]:
    times = {"from_ms": milliseconds(first), "to_ms": milliseconds(last)}
    return counting.summary(db, **times, shifts=SHIFTS, time_zone=time_zone, source=source)


def test_shifts_go_by_the_clock_on_the_wall_and_nights_belong_to_the_day_before(db: Engine) -> None:
    for when in ("2026-01-10T04:59", "2026-01-10T05:00", "2026-01-10T13:30", "2026-01-10T21:10", "2026-01-11T02:00"):
        inspected(db, when, 0.1)
    found = summary(db, "2026-01-09", "2026-01-12", time_zone="Europe/Berlin")["shifts"]
    assert [(each["start"], each["images"]) for each in found] == [
        ("2026-01-09 22:00", 1),  # 05:59 in Berlin
        ("2026-01-10 06:00", 1),
        ("2026-01-10 14:00", 1),
        ("2026-01-10 22:00", 2),  # 22:10, and 03:00 of the next day
    ]


def test_shifts_follow_summer_time(db: Engine) -> None:
    inspected(db, "2026-03-28T05:00", 0.1)  # 06:00 in Berlin
    inspected(db, "2026-03-29T04:00", 0.1)  # 06:00 in Berlin, in summer time
    found = summary(db, "2026-03-28", "2026-03-30", time_zone="Europe/Berlin")["shifts"]
    assert [each["start"] for each in found] == ["2026-03-28 06:00", "2026-03-29 06:00"]


def test_rates_and_types_are_those_of_the_source_and_the_time(db: Engine) -> None:
    inspected(db, "2026-01-10T08:00", 0.1, 0.2, 0.3)
    inspected(db, "2026-01-10T08:00", 0.9, verdict="ng", top_type="scratch")
    inspected(db, "2026-01-10T09:00", 0.8, 0.85, verdict="ng", top_type="hole", source="line 2")
    inspected(db, "2026-02-10T09:00", 0.8, verdict="ng", top_type="dent")
    both = summary(db, "2026-01-10", "2026-01-11")
    assert both["verdicts"] == {"ok": 3, "review": 0, "ng": 3}
    assert both["types"] == [{"type": "hole", "images": 2}, {"type": "scratch", "images": 1}]  # the most frequent first
    assert [(each["source"], each["ng_rate"]) for each in both["sources"]] == [("line 1", 0.25), ("line 2", 1.0)]
    one = summary(db, "2026-01-10", "2026-01-11", source="line 2")
    assert (one["images"], one["histogram"]["ng"][80], one["histogram"]["ng"][85]) == (2, 1, 1)


def test_drift_is_how_far_a_days_scores_lie_from_those_before(db: Engine) -> None:
    low, high = [0.105] * 40, [0.905] * 40
    inspected(db, "2026-01-10T08:00", *low)
    inspected(db, "2026-01-11T08:00", *low)
    inspected(db, "2026-01-12T08:00", *low[:20], *high[:20])
    inspected(db, "2026-01-13T08:00", *high[:29])  # too few to say
    days = {each["day"]: each for each in summary(db, "2026-01-10", "2026-01-14")["days"]}
    assert [days[f"2026-01-{day}"]["drift"] for day in (10, 11, 12, 13)] == [None, 0.0, 0.5, None]
    assert days["2026-01-12"]["mean_score"] == pytest.approx(0.505)


def test_other_thresholds_are_tried_on_the_raw_scores(db: Engine) -> None:
    now = datetime.fromisoformat("2026-01-10T08:00+00:00").isoformat()
    inspected(db, now, 0.1, 0.5)
    inspected(db, now, 0.65, verdict="review")
    inspected(db, now, 0.7, 0.9, verdict="ng")
    times = {"from_ms": milliseconds("2026-01-10"), "to_ms": milliseconds("2026-01-11")}
    found = counting.preview(db, threshold=0.8, review=0.5, **times)
    assert found["now"] == {"ok": 2, "review": 1, "ng": 2}
    assert found["then"] == {"ok": 1, "review": 3, "ng": 1}
    assert found["changed"] == 2
    assert counting.preview(db, threshold=0.6, review=None, **times)["then"] == {"ok": 2, "review": 0, "ng": 3}
