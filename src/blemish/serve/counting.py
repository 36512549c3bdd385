"""Statistics of inspections: rates, types, scores, drift by hour, shift and source; and what other thresholds would do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import case, func, select
from sqlalchemy.engine import Engine

from blemish.serve.clock import HOUR_MS, iso
from blemish.serve.database.tables import inspections, statistics
from blemish.serve.history import BINS, reading
from blemish.serve.reviewing import GOOD_LABELS

__all__ = ["preview", "summary"]

VERDICTS = ("ok", "review", "ng")
FEWEST_TO_COMPARE = 30  # images of a day and of the days before it


def summary(
    db: Engine, *, from_ms: int, to_ms: int, source: str | None = None, shifts: Sequence[str], time_zone: str
) -> dict[str, Any]:
    """What became of the images of a time, in whole hours.

    Returns:
        "verdicts", "types" (of what is not OK, the most frequent first), "histogram" (100 bins of the image score for each
        verdict), "hours", "shifts", "sources" and "days"; the latter with "drift": how far the scores' distribution lies from
        that of the days before it (Kolmogorov's distance, 0..1; None with fewer than 30 images on a side).
    """
    c = statistics.c
    within = [c.hour >= from_ms // HOUR_MS, c.hour < -(-to_ms // HOUR_MS)]
    if source is not None:
        within.append(c.source == source)
    images = func.sum(c.images)
    verdicts: Counter[str] = Counter()
    histogram = {verdict: [0] * BINS for verdict in VERDICTS}
    parts: dict[str, dict[Any, Counter[str]]] = {
        name: defaultdict(Counter) for name in ("hours", "shifts", "sources", "days")
    }
    daily: dict[str, list[int]] = defaultdict(lambda: [0] * BINS)
    zone, starts = ZoneInfo(time_zone), sorted(shifts)
    places: dict[int, tuple[str, str]] = {}
    with reading(db) as connection:
        by_source = select(c.hour, c.source, c.verdict, images).where(*within).group_by(c.hour, c.source, c.verdict)
        for hour, of_source, verdict, count in connection.execute(by_source):
            if hour not in places:
                places[hour] = _shift_and_day(hour, starts, zone)
            verdicts[verdict] += count
            for name, key in zip(parts, (hour, places[hour][0], of_source, places[hour][1]), strict=True):
                parts[name][key][verdict] += count
        by_bin = select(c.hour, c.verdict, c.score_bin, images).where(*within).group_by(c.hour, c.verdict, c.score_bin)
        for hour, verdict, score_bin, count in connection.execute(by_bin):
            histogram[verdict][score_bin] += count
            daily[places[hour][1]][score_bin] += count
        by_type = select(c.top_type, images).where(*within, c.verdict != "ok", c.top_type != "").group_by(c.top_type)
        types = Counter({name: int(count) for name, count in connection.execute(by_type)})
    drift = _drift(daily)
    return {
        "from": iso(from_ms // HOUR_MS * HOUR_MS),
        "to": iso(-(-to_ms // HOUR_MS) * HOUR_MS),
        "images": sum(verdicts.values()),
        "verdicts": {verdict: verdicts[verdict] for verdict in VERDICTS},
        "types": [{"type": name, "images": count} for name, count in types.most_common()],
        "histogram": histogram,
        "hours": [{"start": iso(hour * HOUR_MS), **_rates(found)} for hour, found in sorted(parts["hours"].items())],
        "shifts": [{"start": shift, **_rates(found)} for shift, found in sorted(parts["shifts"].items())],
        "sources": [{"source": name, **_rates(found)} for name, found in sorted(parts["sources"].items())],
        "days": [{"day": day, **_rates(found), **drift[day]} for day, found in sorted(parts["days"].items())],
    }


def preview(
    db: Engine, *, threshold: float, review: float | None, from_ms: int, to_ms: int, source: str | None = None
) -> dict[str, Any]:
    """What these thresholds would have said of the images of a time: decided again from the raw scores, nothing is changed.

    Returns:
        "now" and "then" (images of each verdict), "changed" (images whose verdict would be another one) and "reviewed": of those
        that people have seen, good ones called NG and bad ones not called NG, now and then.
    """
    c = inspections.c
    score = c.image_score
    line = threshold if review is None else review
    then = case((score >= threshold, "ng"), (score >= line, "review"), else_="ok")
    conditions = [c.created_ms >= from_ms, c.created_ms < to_ms, c.verdict.is_not(None)]
    if source is not None:
        conditions.append(c.source == source)
    now_counts: Counter[str] = Counter()
    then_counts: Counter[str] = Counter()
    seen: dict[str, Counter[str]] = {"now": Counter(), "then": Counter()}
    changed = 0
    with reading(db) as connection:
        query = select(c.verdict, then.label("then"), c.review_label, func.count()).where(*conditions)
        for verdict, other, label, images in connection.execute(query.group_by(c.verdict, "then", c.review_label)):
            now_counts[verdict] += images
            then_counts[other] += images
            changed += images * (verdict != other)
            for when, said in (("now", verdict), ("then", other)):
                if label in GOOD_LABELS:
                    seen[when]["false_rejects"] += images * (said == "ng")
                elif label is not None:
                    seen[when]["misses"] += images * (said == "ok")
    return {
        "threshold": threshold,
        "review": review,
        "now": {verdict: now_counts[verdict] for verdict in VERDICTS},
        "then": {verdict: then_counts[verdict] for verdict in VERDICTS},
        "changed": changed,
        "reviewed": {when: {name: found[name] for name in ("false_rejects", "misses")} for when, found in seen.items()},
    }


def _rates(found: Counter[str]) -> dict[str, Any]:
    total = sum(found.values())
    return {
        "images": total,
        **{verdict: found[verdict] for verdict in VERDICTS},
        "ng_rate": round(found["ng"] / total, 6) if total else None,
    }


def _shift_and_day(hour: int, starts: Sequence[str], zone: ZoneInfo) -> tuple[str, str]:
    """The shift that an hour belongs to, as "2026-11-26 06:00" by the clock on the wall, and the day on which it began."""
    when = datetime.fromtimestamp(hour * 3600, UTC).astimezone(zone)
    clock = when.strftime("%H:%M")
    earlier = [start for start in starts if start <= clock]
    day = when.date() if earlier else when.date() - timedelta(days=1)
    return f"{day.isoformat()} {earlier[-1] if earlier else starts[-1]}", day.isoformat()


def _drift(daily: dict[str, list[int]]) -> dict[str, dict[str, Any]]:
    before = [0] * BINS
    found: dict[str, dict[str, Any]] = {}
    for day in sorted(daily):
        here = daily[day]
        total = sum(here)
        mean = sum((place + 0.5) / BINS * images for place, images in enumerate(here)) / total
        found[day] = {"mean_score": round(mean, 4), "drift": _distance(before, here)}
        before = [a + b for a, b in zip(before, here, strict=True)]
    return found


def _distance(a: Sequence[int], b: Sequence[int]) -> float | None:
    """The largest difference of the two cumulative distributions."""
    all_a, all_b = sum(a), sum(b)
    if min(all_a, all_b) < FEWEST_TO_COMPARE:
        return None
    most = up_to_a = up_to_b = 0.0
    for in_a, in_b in zip(a, b, strict=True):
        up_to_a += in_a / all_a
        up_to_b += in_b / all_b
        most = max(most, abs(up_to_a - up_to_b))
    return round(most, 4)
