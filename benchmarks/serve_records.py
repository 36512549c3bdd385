"""The filters of the page on many records: python -m benchmarks.serve_records [--records 1000000] [--database URL]."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.engine import Engine

from blemish.serve import counting, history
from blemish.serve.clock import HOUR_MS, now_ms
from blemish.serve.database.opening import open_database, sqlite_url
from blemish.serve.database.tables import inspections
from blemish.serve.database.tables import statistics as counted
from blemish.serve.history import Filters

CHUNK = 20_000
SOURCES = ("line 1", "line 2", "line 3")
TYPES = ("scratch", "hole", "stain", "dent", "crack")
DAYS = 30
ROUNDS = 5


def rows(count: int, start_ms: int) -> Iterator[dict[str, Any]]:
    """Records of thirty days: 90 % OK, 4 % REVIEW, 6 % NG, a third of the latter two reviewed."""
    chance = random.Random(0)
    step = DAYS * 24 * HOUR_MS / count
    for number in range(count):
        score = chance.random() ** 3 * 0.5 if chance.random() < 0.9 else 0.5 + 0.5 * chance.random()
        verdict = "ng" if score >= 0.7 else "review" if score >= 0.5 else "ok"
        reviewed = verdict != "ok" and chance.random() < 0.33
        yield {
            "id": f"{number:032x}",
            "state": "done",
            "created_ms": int(start_ms + number * step),
            "finished_ms": int(start_ms + number * step) + 200,
            "source": chance.choice(SOURCES),
            "name": f"part-{number}.png",
            "profile": "default",
            "profile_version": 1,
            "settings": "{}",
            "image": f"images/{number}",
            "bytes": 100_000,
            "attempts": 0,
            "verdict": verdict,
            "image_score": score,
            "map_peak": score,
            "top_type": chance.choice(TYPES),
            "region_count": int(verdict != "ok"),
            "review_label": chance.choice(("accept", "reject", "false_alarm")) if reviewed else None,
            "record": json.dumps({"verdict": verdict, "padding": "x" * 1000}),
        }


def fill(db: Engine, count: int, start_ms: int) -> None:
    chunk: list[dict[str, Any]] = []
    tally: dict[tuple[Any, ...], int] = {}
    for row in rows(count, start_ms):
        chunk.append(row)
        key = (
            row["created_ms"] // HOUR_MS,
            row["source"],
            row["verdict"],
            row["top_type"],
            min(99, int(row["image_score"] * 100)),
        )
        tally[key] = tally.get(key, 0) + 1
        if len(chunk) == CHUNK:
            with db.begin() as connection:
                connection.execute(insert(inspections), chunk)
            chunk = []
    names = ("hour", "source", "verdict", "top_type", "score_bin")
    with db.begin() as connection:
        if chunk:
            connection.execute(insert(inspections), chunk)
        found = [{**dict(zip(names, key, strict=True)), "images": images} for key, images in tally.items()]
        for start in range(0, len(found), CHUNK):
            connection.execute(insert(counted), found[start : start + CHUNK])
    with db.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def asked(db: Engine, start_ms: int) -> dict[str, Callable[[], Any]]:
    """What the page asks, each by its name."""
    end = start_ms + DAYS * 24 * HOUR_MS
    week, day = end - 7 * 24 * HOUR_MS, end - 24 * HOUR_MS
    filters = {
        "live": Filters(states=("done", "failed")),
        "review queue": Filters(verdicts=("review", "ng"), review="none", states=("done",)),
        "verdict": Filters(verdicts=("ng",)),
        "type": Filters(top_type="crack"),
        "source": Filters(source="line 2"),
        "source, type, verdict": Filters(source="line 2", top_type="hole", verdicts=("ng",)),
        "type that is not there": Filters(top_type="burn"),
        "reviewed as false alarm": Filters(review="false_alarm"),
        "a day three weeks ago": Filters(from_ms=start_ms + 9 * 24 * HOUR_MS, to_ms=start_ms + 10 * 24 * HOUR_MS),
        "NG of a source in a week": Filters(verdicts=("ng",), source="line 1", from_ms=week, to_ms=end),
    }
    found: dict[str, Callable[[], Any]] = {
        name: (lambda chosen=chosen: history.find_inspections(db, chosen, limit=60))  # type: ignore[misc]
        for name, chosen in filters.items()
    }
    found["a page in the middle"] = lambda: history.find_inspections(db, Filters(), before=500_000, limit=60)
    found["count of NG"] = lambda: history.count(db, Filters(verdicts=("ng",)))
    found["statistics of a week"] = lambda: counting.summary(
        db, from_ms=week, to_ms=end, shifts=("06:00", "14:00", "22:00"), time_zone="Europe/Berlin"
    )
    found["preview of a day"] = lambda: counting.preview(db, threshold=0.6, review=None, from_ms=day, to_ms=end)
    found["preview of a week"] = lambda: counting.preview(db, threshold=0.6, review=0.4, from_ms=week, to_ms=end)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--database", help="URL of an empty PostgreSQL; by default SQLite in a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(options.database or sqlite_url(Path(folder)))
        start_ms = now_ms() - DAYS * 24 * HOUR_MS
        began = time.perf_counter()
        fill(db, options.records, start_ms)
        print(f"{options.records:,} records written in {time.perf_counter() - began:.0f} s")
        print("| question | ms (median of 5) | ms (slowest) |\n|---|---|---|")
        for name, ask in asked(db, start_ms).items():
            times = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                ask()
                times.append(1000 * (time.perf_counter() - began))
            print(f"| {name} | {statistics.median(times):.0f} | {max(times):.0f} |")
        db.dispose()


if __name__ == "__main__":
    main()
