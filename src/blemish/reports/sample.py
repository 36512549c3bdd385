"""Which images of a very large run are on its page: the highest scores, and others drawn by lot."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["MOST_ON_PAGE", "sample_records", "sample_words"]

MOST_ON_PAGE = 5000  # of more, so many are shown; a browser does not hold a million pictures
SEED = 0


def sample_records(records: Iterable[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """`count` records in their order, half of them those of the highest scores; memory for so many, and no more.

    Images without a result stand last, as if their score were below all others.
    """
    by_lot = random.Random(SEED)
    top = count // 2
    highest: list[tuple[float, int, Mapping[str, Any]]] = []
    drawn: list[tuple[int, Mapping[str, Any]]] = []
    passed = 0
    for number, record in enumerate(records):
        score = -1.0 if record["image_score"] is None else float(record["image_score"])
        entry = (score, -number, record)
        if len(highest) < top:
            heapq.heappush(highest, entry)
            continue
        left = heapq.heappushpop(highest, entry)
        passed += 1
        if len(drawn) < count - top:
            drawn.append((-left[1], left[2]))
        elif (place := by_lot.randrange(passed)) < count - top:
            drawn[place] = (-left[1], left[2])
    chosen = {-number: record for _, number, record in highest} | dict(drawn)
    return [chosen[number] for number in sorted(chosen)]


def sample_words(counts: Mapping[str, int], shown: int) -> str:
    """What the page says of a run of which it shows `shown` images."""
    total = sum(counts.values())
    named = ", ".join(f"{count:,} {name.upper() if name in ('ng', 'ok') else name}" for name, count in counts.items())
    return (
        f"The run has {total:,} images: {named}. This page shows {shown:,} of them, the {shown // 2:,} with the highest "
        f"scores and {shown - shown // 2:,} drawn by lot; counts and histogram here are of those."
    )
